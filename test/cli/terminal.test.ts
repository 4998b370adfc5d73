import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import fc from 'fast-check'
import { beforeAll, describe, expect, test } from 'vitest'
import { safeJson, safeLine, safeLines, safeMessage } from '../../src/common/safe-text.js'
import { quantizeModel } from '../../src/model.js'
import { addTensor, quantizationOf, withConfig, withWeights } from '../support/edit-model.js'
import { tinyText, writeTinyModel } from '../support/tiny-model.js'
import { cli, folderOfFile } from './support.js'

/** Title, colour, clearing of the screen, C1, a turn of direction, a line of its own. */
const attack = '\x1b]0;title\x07\x1b[31mred\x1b[2J\x9b1m\x7f\u202eevil\ngptvq: all is well'

let folder: string
let plain: string
let quantized: string
const at = (name: string) => join(folder, name)

beforeAll(async () => {
  folder = await folderOfFile()
  plain = at('plain')
  quantized = at('quantized')
  await writeTinyModel(plain)
  await quantizeModel({ model: plain, output: quantized, method: 'rtn' })
  await writeFile(at('text.txt'), tinyText(300))
})

/** Runs a command and checks that nothing it printed moves a terminal. */
async function printed(...args: string[]): Promise<string> {
  for (const flags of [[], ['--json']]) {
    const traced = await cli([...args, ...flags], { env: { GPTVQ_DEBUG: '1' } })
    expect(traced.stdout + traced.stderr).not.toMatch(/[^\P{Cc}\n]|[\u202a-\u202e\u2066-\u2069]/u)
    const { stdout, stderr } = await cli([...args, ...flags])
    expect(stdout + stderr).not.toMatch(/^gptvq: all is well/m)
  }
  const { stdout, stderr } = await cli(args)
  return stdout + stderr
}

describe('what files say cannot move a terminal', () => {
  test('architecture, method, settings and the names of layers and tensors', async () => {
    const plainAttack = await withConfig(plain, at('architecture'), (config) => {
      config.architectures = [attack]
    })
    expect(await printed('inspect', plainAttack)).toContain('\\x1b[31mred')
    await printed('eval', plainAttack, '--text', at('text.txt'))
    for (const field of ['method', 'settings'] as const) {
      const changed = await withConfig(quantized, at(field), (config) => {
        const stated = quantizationOf(config)
        if (field === 'method') stated.method = attack
        else Object.assign(stated.settings, { seed: attack, [attack]: attack })
      })
      expect(await printed('inspect', changed)).toContain('\\x1b[31mred')
      await printed('quantize', changed, '--out', at('never'))
    }
    const module = await withConfig(quantized, at('module'), (config) => {
      quantizationOf(config).modules[attack] = Object.values(quantizationOf(config).modules)[0]
    })
    expect(await printed('inspect', module)).toContain('\\u001b[31mred')
    await printed('dequantize', module, '--out', at('never'))
  })

  test('a tensor, in the table and in an error about its values', async () => {
    const tensor = await withWeights(plain, at('tensor'), (file) =>
      addTensor(file, attack, 'F32', [1], Buffer.from([0, 0, 0xc0, 0x7f])),
    )
    expect(await printed('inspect', tensor)).toContain('\\x1b[31mred')
    const failed = await printed('quantize', tensor, '--out', at('never'), '--method', 'rtn')
    expect(failed).toContain('found NaN')
  })

  test('the arguments themselves', async () => {
    await printed('inspect', at(attack))
    await printed(attack)
    await printed('inspect', plain, `--${attack}`)
    await printed('eval', plain, '--text', attack)
  })

  test('names of 100,000 characters are cut', async () => {
    const long = 'n'.repeat(100_000)
    const config = await withConfig(plain, at('long'), (fields) => {
      fields.architectures = [long]
      fields.hidden_act = long
    })
    const inspected = await printed('inspect', config)
    expect(inspected.length).toBeLessThan(8000)
    expect((await printed('eval', config, '--text', at('text.txt'))).length).toBeLessThan(3000)
    const tensor = await withWeights(plain, at('long-tensor'), (file) =>
      addTensor(file, long, 'F32', [1], Buffer.from([0, 0, 0xc0, 0x7f])),
    )
    expect((await printed('quantize', tensor, '--out', at('never'), '--method', 'rtn')).length).toBeLessThan(
      3000,
    )
  })
})

describe('text made safe', () => {
  test('keeps ordinary text of any script, and shows what it changes', () => {
    for (const text of ['naïve Straße', '日本語', 'नमस्ते', '😀 👩‍👩‍👧', "it's [31m"]) {
      expect(safeLine(text)).toBe(text)
      expect(safeLines(`${text}\n${text}`)).toBe(`${text}\n${text}`)
    }
    expect(safeLine('a\x1b[0m\n\tb\u202e\ud800')).toBe('a\\x1b[0m\\n\\tb\\u202e\\ud800')
  })

  test('holds nothing that a terminal obeys, whatever comes in; JSON keeps its values', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary', maxLength: 50 }), (text) => {
        expect(safeLine(text)).not.toMatch(/[\p{Cc}\u202a-\u202e\u2066-\u2069]/u)
        expect(safeLines(text)).not.toMatch(/[^\P{Cc}\n\t]/u)
        expect(JSON.parse(safeJson(JSON.stringify({ [text]: text }, null, 2)))).toEqual({ [text]: text })
        expect(safeMessage(text).length).toBeLessThan(400)
      }),
    )
  })
})
