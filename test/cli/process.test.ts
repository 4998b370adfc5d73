import { join } from 'node:path'
import { beforeAll, expect, test } from 'vitest'
import { inspectModel } from '../../src/model.js'
import { writeTinyModel } from '../support/tiny-model.js'
import { folderOfFile, resultOf, startCli } from './support.js'

let model: string

beforeAll(async () => {
  model = join(await folderOfFile(), 'model')
  await writeTinyModel(model)
})

test('a command that succeeds prints its result on stdout and exits with 0', async () => {
  const { code, stdout, stderr } = await resultOf(startCli(['inspect', model, '--json']))
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
  expect(JSON.parse(stdout)).toEqual(await inspectModel(model))
})

test('a command that fails says why on stderr and exits with 1', async () => {
  const { code, stdout, stderr } = await resultOf(startCli(['inspect', join(model, 'nowhere')]))
  expect({ code, stdout }).toEqual({ code: 1, stdout: '' })
  expect(stderr).toMatch(/^gptvq: .*nowhere: there is no such folder.*\n$/)
})

test('a wrong call exits with 2', async () => {
  const { code, stdout, stderr } = await resultOf(startCli(['inspect', model, '--bits', '2']))
  expect({ code, stdout }).toEqual({ code: 2, stdout: '' })
  expect(stderr).toContain('unknown flag --bits')
})

test('a reader that goes away early is no error', async () => {
  const child = startCli(['inspect', model])
  child.stdout?.destroy()
  expect(await resultOf(child)).toMatchObject({ code: 0, stderr: '' })
})
