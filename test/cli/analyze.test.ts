import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { beforeAll, expect, test } from 'vitest'
import { writeTinyModel } from '../support/tiny-model.js'
import { cli, folderOfFile } from './support.js'

let folder: string
const at = (name: string) => join(folder, name)

beforeAll(async () => {
  folder = await folderOfFile()
  await writeTinyModel(at('model'))
  await writeFile(at('text.txt'), 'Some words to run the model on, neither many nor few. '.repeat(3))
})

const flags = () => ['--text', at('text.txt'), '--context', '32', '--windows', '1', '--quiet']

test('lists the layers, the most sensitive first, and writes a page', async () => {
  const args = ['analyze', at('model'), ...flags(), '--bits', '3', '--out', at('page.html')]
  const { code, stdout, stderr } = await cli(args)
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
  expect(stdout.match(/model\.layers\.\d/g)).toHaveLength(14)
  const both = Array.from(stdout.matchAll(/^model\S+ +\S+ +\S+ +(\S+)/gm), ([, value]) => Number(value))
  expect(both).toEqual([...both].sort((a, b) => b - a))
  expect(await readFile(at('page.html'), 'utf8')).toMatch(/^<!doctype html>/)
  expect(await cli(args)).toMatchObject({ code: 1, stderr: expect.stringMatching(/page\.html.*--force/s) })
})

test('prints the analysis as JSON', async () => {
  const { stdout } = await cli(['analyze', at('model'), ...flags(), '--scheme', 'w8a8', '--json'])
  const { settings, layers } = JSON.parse(stdout)
  expect(settings).toMatchObject({ bits: 8, activationBits: 8, granularity: 'channel' })
  expect(layers).toHaveLength(14)
})
