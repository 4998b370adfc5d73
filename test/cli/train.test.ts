import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { tinyText, writeTinyModel } from '../support/tiny-model.js'
import { cli } from './support.js'

let place = ''
let model = ''
let text = ''

beforeAll(async () => {
  place = await mkdtemp(join(tmpdir(), 'gptvq-train-cli-'))
  ;({ folder: model } = await writeTinyModel(join(place, 'model')))
  text = join(place, 'text.txt')
  await writeFile(text, tinyText(600))
})

afterAll(() => rm(place, { recursive: true, force: true }))

const short = '--sequences 12 --sequence-length 16 --batch 4 --epochs 1 --engine wasm'.split(' ')

it('train says what it gained, and writes what eval reads', async () => {
  const out = join(place, 'trained')
  const flags = '--method qat --bits 2 --group-size 16 --start-method rtn --learning-rate 0.02'.split(' ')
  const trained = await cli(['train', model, '--text', text, '--out', out, ...flags, ...short, '--quiet'])
  expect(trained).toMatchObject({ code: 0, stderr: '' })
  expect(trained.stdout).toMatch(/loss held out +0\.\d+ → 0\.\d+, step \d of \d kept/)
  expect(trained.stdout).toMatch(/trained on +10 sequences of 16 tokens, 2 more held out/)
  const evaluated = await cli(['eval', out, '--reference', model, '--text', text, '--quiet', '--json'])
  expect(JSON.parse(evaluated.stdout).klDivergence).toBeGreaterThan(0)
  expect((await cli(['inspect', out])).stdout).toMatch(/rtn, bits 2,[\s\S]*then trained: qat/)
})

it('train writes a page with the curves beside the folder, and refuses a place that is taken before it works', async () => {
  const out = join(place, 'reported')
  const page = join(place, 'page.html')
  const flags = '--method qat --bits 4 --group-size 16 --start-method rtn --hidden-weight 0.5'.split(' ')
  const given = ['train', model, '--text', text, '--report', page, ...flags, ...short, '--quiet']
  const { code, stdout } = await cli([...given, '--out', out])
  expect(code).toBe(0)
  expect(stdout).toContain(page)
  const html = await readFile(page, 'utf8')
  expect(html).toMatch(/Training: the weights of step \d were kept/)
  for (const name of ['training text', 'held-out text', 'KL divergence', 'Hidden states']) {
    expect(html).toContain(name)
  }
  expect(html).toContain('--hidden-weight 0.5')
  const again = await cli([...given, '--out', join(place, 'never')])
  expect(again.code).not.toBe(0)
  expect(again.stderr).toContain(page)
})

it('distill makes a student of some blocks, as --json tells', async () => {
  const out = join(place, 'student')
  const flags = ['--keep-blocks', '0', '--text', text, '--out', out, ...short, '--json', '--quiet']
  const { code, stdout } = await cli(['distill', model, ...flags])
  expect(code).toBe(0)
  const report = JSON.parse(stdout)
  expect(report).toMatchObject({ student: [0], blocks: 1, output: out })
  expect(report.curve.points[0].step).toBe(0)
})

it('wrong flags are refused by name', async () => {
  const out = join(place, 'never')
  const distill = await cli(['distill', model, '--keep-blocks', '0;1', '--text', text, '--out', out])
  expect(distill.code).toBe(2)
  expect(distill.stderr).toMatch(/--keep-blocks: expected numbers of blocks with commas/)
  const train = await cli(['train', model, '--method', 'qat', '--rank', '4', '--text', text, '--out', out])
  expect(train.code).not.toBe(0)
  expect(train.stderr).toMatch(/--rank.*lr-qat|rank.*of no use/)
})
