import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { beforeAll, describe, expect, test } from 'vitest'
import { jsonProgress } from '../../src/cli/terminal/progress-bar.js'
import { writeTinyModel } from '../support/tiny-model.js'
import { cli, folderOfFile } from './support.js'

let folder: string
let model: string

beforeAll(async () => {
  folder = await folderOfFile()
  model = join(folder, 'model')
  await writeTinyModel(model)
})

describe('for machines', () => {
  test('--progress json: every line of standard error is an object, and done never falls', async () => {
    const args = ['quantize', model, '--out', join(folder, 'out'), '--method', 'rtn', '--progress', 'json']
    const { code, stderr } = await cli(args)
    expect(code).toBe(0)
    const lines = stderr
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line))
    expect(lines.length).toBeGreaterThan(3)
    expect(lines.at(-1)).toMatchObject({ done: 1 })
    let done = 0
    for (const line of lines) {
      expect(line).toMatchObject({ step: expect.any(String), done: expect.any(Number) })
      expect(line.done).toBeGreaterThanOrEqual(done)
      done = line.done
    }
    expect(lines.some(({ block, blocks }) => block === 2 && blocks === 2)).toBe(true)
  })

  test('a failure is an object where a file of flags asks for JSON', async () => {
    const config = join(folder, 'json.json')
    await writeFile(config, JSON.stringify({ json: true }))
    const { code, stdout } = await cli(['inspect', join(folder, 'nowhere'), '--config', config])
    expect(JSON.parse(stdout)).toMatchObject({ error: { code: 'CHECKPOINT', exitCode: code } })
  })

  test('seconds left by the work so far, null while it cannot be told', () => {
    let time = 0
    const lines: string[] = []
    const { report, note } = jsonProgress({ write: (text) => lines.push(text) }, () => time)
    report({ step: 'a', done: 0.5 })
    time = 10_000
    report({ step: 'block 3 of 4: quantizing q', done: 0.5 })
    note('stopping\x1b')
    expect(lines.map((line) => JSON.parse(line))).toEqual([
      { step: 'a', done: 0.5, secondsLeft: null },
      {
        ...{ step: 'block 3 of 4: quantizing q', block: 3, blocks: 4, phase: 'quantizing q' },
        ...{ done: 0.5, secondsLeft: 10 },
      },
      { note: 'stopping\x1b' },
    ])
  })

  test.each([
    [['inspect', 'nowhere'], { code: 'CHECKPOINT', exitCode: 1 }],
    [['inspect'], { code: 'USAGE', exitCode: 2 }],
    [['quantize', 'm', '--out', 'o', '--bits', '99'], { code: 'OPTION', option: 'bits', exitCode: 2 }],
  ])('a failure under --json is JSON on standard output: %j', async (args, expected) => {
    const { code, stdout, stderr } = await cli([...args, '--json'])
    const { error } = JSON.parse(stdout)
    expect(error).toMatchObject(expected)
    expect(code).toBe(expected.exitCode)
    expect(stderr).toBe(`${error.message}\n`)
  })
})
