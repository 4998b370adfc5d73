import { readdir, readFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import { tinyLlamaFolder } from '../model/tiny-llama.js'
import { cli, folderOfFile } from './support.js'

const text = fileURLToPath(new URL('../../README.md', import.meta.url))
const judged = ['--text', text, '--windows', '2', '--context', '64', '--calibration', text]
const leftovers = async () => (await readdir(tmpdir())).filter((name) => name.startsWith('gptvq-compare-'))

test('each try has the figures that quantize and eval give it; the best within the budget is named', async () => {
  const folder = await folderOfFile()
  const before = await leftovers()
  const chart = join(folder, 'bits.svg')
  const tries = ['method=rtn bits=3', 'method=rtn bits=4', 'method=rtn,group-size=32,bits=4']
  const { code, stdout, stderr } = await cli([
    'compare',
    tinyLlamaFolder,
    ...judged,
    ...tries.flatMap((one) => ['--try', one]),
    ...['--budget', '4.2', '--chart', chart, '--json'],
  ])
  expect(stderr).not.toMatch(/gptvq:/)
  expect(code).toBe(0)
  const { trials, reference, best } = JSON.parse(stdout)
  expect(trials.map(({ name }: { name: string }) => name)).toEqual(tries)
  expect(best).toBe(tries[1])

  const out = join(folder, 'out')
  const flags = ['--method', 'rtn', '--bits', '4', '--json']
  const report = JSON.parse((await cli(['quantize', tinyLlamaFolder, '--out', out, ...flags])).stdout)
  const scores = JSON.parse(
    (await cli(['eval', out, '--reference', tinyLlamaFolder, ...judged.slice(0, 6), '--json'])).stdout,
  )
  expect(trials[1]).toMatchObject({ bitsPerValue: report.bitsPerValue, bytes: report.outputBytes })
  expect(trials[1].scores.klDivergence).toBe(scores.klDivergence)
  expect(reference).toEqual(scores.reference)
  expect(await readFile(chart, 'utf8')).toMatch(/^<svg/)
  expect(await leftovers()).toEqual(before)
})

test('a try with a setting that is not there, or cannot be, is refused', async () => {
  const call = (one: string) => cli(['compare', tinyLlamaFolder, ...judged, '--try', one])
  expect(await call('bitts=2')).toMatchObject({
    code: 2,
    stderr: expect.stringMatching(/--try: .*bitts.*bits/),
  })
  expect(await call('bits=many')).toMatchObject({
    code: 2,
    stderr: expect.stringMatching(/--try: expected a number/),
  })
  expect(await call('method=rtn bits=40')).toMatchObject({ code: 2, stderr: expect.stringMatching(/bits/) })
})
