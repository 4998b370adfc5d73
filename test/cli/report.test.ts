import { existsSync } from 'node:fs'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { beforeAll, expect, test } from 'vitest'
import { quantizeModel } from '../../src/pipeline/quantize/quantize-model.js'
import { writeTinyModel } from '../support/tiny-model.js'
import { cli, folderOfFile } from './support.js'

let folder: string
const at = (name: string) => join(folder, name)

beforeAll(async () => {
  folder = await folderOfFile()
  await writeTinyModel(at('model'))
  await quantizeModel({ model: at('model'), output: at('quantized'), method: 'rtn', bits: 4 })
})

test('gptvq report writes one page and says where and how large', async () => {
  const { code, stdout } = await cli(['report', at('quantized'), '--out', at('report.html')])
  expect(code).toBe(0)
  expect(stdout).toContain(`is written to ${at('report.html')}`)
  expect(stdout).toContain('14 layers at')
  expect(await readFile(at('report.html'), 'utf8')).toMatch(/^<!doctype html>/)
})

test('--json gives the same figures', async () => {
  const { stdout } = await cli(['report', at('quantized'), '--out', at('json.html'), '--json'])
  const { bytes, layers, output } = JSON.parse(stdout)
  expect({ layers, output }).toEqual({ layers: 14, output: at('json.html') })
  expect((await readFile(at('json.html'))).length).toBe(bytes)
})

test('refuses to replace a report without --force', async () => {
  const args = ['report', at('quantized'), '--out', at('twice.html')]
  expect((await cli(args)).code).toBe(0)
  const { code, stderr } = await cli(args)
  expect(code).toBe(1)
  expect(stderr).toContain('exists. Choose another output, or replace it with --force\n')
  expect((await cli([...args, '--force'])).code).toBe(0)
})

test('quantize --report writes the page of what it made, calibration and times included', async () => {
  await writeFile(at('text.txt'), 'some words to calibrate on, again and again. '.repeat(40))
  const args = ['quantize', at('model'), '--out', at('both'), '--calibration', at('text.txt')]
  const small = ['--sequences', '4', '--sequence-length', '16', '--report', at('both.html')]
  const { code, stdout } = await cli([...args, ...small])
  expect(code).toBe(0)
  expect(stdout).toMatch(new RegExp(`report +${at('both.html')}`))
  const page = await readFile(at('both.html'), 'utf8')
  const { version } = JSON.parse(await readFile(new URL('../../package.json', import.meta.url), 'utf8'))
  expect(page).toContain(`Written by gptvq ${version}.`)
  expect(page).toMatch(/4 sequences of 16 tokens/)
})

test('quantize --report finds a place that is taken before the work', async () => {
  await writeFile(at('mine.html'), 'not a report')
  const args = ['quantize', at('model'), '--out', at('never'), '--method', 'rtn', '--report', at('mine.html')]
  const { code, stderr } = await cli(args)
  expect(code).toBe(1)
  expect(stderr).toContain('mine.html: exists')
  expect(existsSync(at('never'))).toBe(false)
})

test('names what is wrong with the call', async () => {
  expect(await cli(['report', at('quantized')])).toMatchObject({
    code: 2,
    stderr: expect.stringContaining('--out FILE is missing'),
  })
  const plain = await cli(['report', at('model'), '--out', at('x.html')])
  expect(plain).toMatchObject({ code: 1, stderr: expect.stringContaining('is not quantized') })
  const count = await cli(['report', at('quantized'), '--out', at('x.html'), '--codebooks', '-1'])
  expect(count.code).toBe(2)
})
