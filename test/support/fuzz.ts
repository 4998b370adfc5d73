import { cp, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { GptvqError } from '../../src/errors.js'
import { dequantizeModel, evaluateModel, inspectModel, quantizeModel } from '../../src/model.js'
import { randomGenerator } from '../../src/random.js'
import { tinyText, writeTinyModel } from './tiny-model.js'

/** A failure that is no error of the library's own. */
export interface Finding {
  readonly seed: number
  readonly file: string
  readonly command: string
  readonly error: unknown
}

/** Values that files hold where others are expected. */
const odd: readonly unknown[] = [
  ...[null, true, false, 0, 1, -1, 0.5, 1e308, -1e308, 2 ** 31, 2 ** 53, 1e-300, 3, 7, 128],
  ...['', 'x', 'llama', '\u0000', '\x1b[2J', 'n'.repeat(5000), '__proto__', '1e999'],
  ...[[], {}, [[]], [null], [1e9, 1e9], { a: { b: [] } }, Array(100).fill('t'), { type: 'Sequence' }],
]

/** Small sound folders to damage: a plain model, and quantized ones of every format of layer. */
export async function fuzzedFolders(work: string): Promise<string[]> {
  const { folder: model } = await writeTinyModel(join(work, 'plain'))
  const calibrated = { model, calibration: { text: tinyText(300) }, sequences: 4, refinementRounds: 0 }
  await quantizeModel({ model, output: join(work, 'rtn'), method: 'rtn', embeddingBits: 8 })
  await quantizeModel({
    ...{ ...calibrated, output: join(work, 'vq') },
    ...{ kmeansIterations: 2, restarts: 1, columnOrder: 'activation' },
  })
  await quantizeModel({ ...calibrated, output: join(work, 'trellis'), trellisBits: 4 })
  return ['plain', 'rtn', 'vq', 'trellis'].map((name) => join(work, name))
}

const files = ['config.json', 'tokenizer.json', 'model.safetensors'] as const

/**
 * Changes one file of a copy of each folder at random and gives it to every command; all that may come of it is success
 * or an error of the library's own.
 *
 * @param folders sound model folders of one weights file, plain or quantized
 * @param work a folder for copies
 * @param count of mutants, numbered from `first` on: the number is the seed
 */
export async function fuzzFolders(
  folders: readonly string[],
  work: string,
  first: number,
  count: number,
): Promise<Finding[]> {
  const findings: Finding[] = []
  for (let seed = first; seed < first + count; seed++) {
    const random = randomGenerator(seed)
    const folder = folders[seed % folders.length]
    const file = files[Math.floor(seed / folders.length) % files.length]
    const model = join(work, 'mutant')
    await rm(model, { recursive: true, force: true })
    await cp(folder, model, { recursive: true })
    const path = join(model, file)
    await writeFile(path, mutate(await readFile(path), file, random))
    for (const [command, run] of commandsOn(model, join(work, 'output'))) {
      try {
        await run()
      } catch (error) {
        if (!(error instanceof GptvqError)) findings.push({ seed, file, command, error })
      }
    }
    await rm(join(work, 'output'), { recursive: true, force: true })
  }
  return findings
}

function commandsOn(model: string, output: string): [string, () => Promise<unknown>][] {
  const text = { text: tinyText(64) }
  return [
    ['inspect', () => inspectModel(model)],
    ['dequantize', () => dequantizeModel({ model, output, force: true })],
    ['eval', () => evaluateModel({ model, text, context: 16, windows: 1, engine: 'wasm' })],
    ['quantize', () => quantizeModel({ model, output, method: 'rtn', force: true })],
  ]
}

function mutate(bytes: Buffer, file: string, random: () => number): Buffer {
  if (file.endsWith('.json') && random() < 0.9) {
    const value: unknown = JSON.parse(bytes.toString())
    for (let i = 0; i < 1 + 2 * random(); i++) changeMember(value, random)
    return Buffer.from(JSON.stringify(value) ?? '')
  }
  const header = file.endsWith('.json') ? bytes.length : 8 + Number(bytes.readBigUInt64LE(0))
  const changed = Buffer.from(bytes)
  const pick = (below: number) => Math.floor(random() * below)
  const kind = pick(4)
  if (kind === 0) return changed.subarray(0, pick(changed.length))
  if (kind === 1) return Buffer.concat([changed, Buffer.alloc(1 + pick(40))])
  // mostly the header: it decides what is read where
  const room = random() < 0.8 ? header : changed.length
  for (let i = 0; i < 1 + pick(3); i++) changed[pick(room)] = pick(256)
  return changed
}

/** Replaces, removes or adds a member somewhere in a JSON value. */
function changeMember(value: unknown, random: () => number): void {
  const pick = <T>(from: readonly T[]) => from[Math.floor(random() * from.length)]
  if (typeof value !== 'object' || value === null) return
  const members = value as Record<string, unknown>
  const name = pick(Object.keys(members))
  if (name === undefined) return
  const inner = members[name]
  if (typeof inner === 'object' && inner !== null && random() < 0.75) {
    changeMember(inner, random)
    return
  }
  const kind = random()
  if (kind < 0.2) delete members[name]
  else if (kind < 0.3) members[`${name}_`] = inner
  else members[name] = structuredClone(pick(odd))
}
