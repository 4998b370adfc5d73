/**
 * How far the forward pass is from `transformers`, family by family: worst error of a logit over the range of all, on
 * each engine and token by token with a cache. Prints a Markdown table.
 *
 *     npm run bench:families                  the tiny models of test/model/families/fixtures
 *     npm run bench:families -- FOLDER wasm   models of true width, made by scripts/oracle/true_width.py, on one engine
 */
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import type { DecoderDescription } from '../../src/model/decoder/description.js'
import { type StartedEngine, startEngine } from '../../src/model/ops/engine.js'
import {
  closeCaches,
  decodeTokens,
  disposeDecoder,
  loadDecoder,
  openCaches,
} from '../../src/model/passes/cached-decoder.js'
import { forwardLogits } from '../../src/model/passes/forward-logits.js'
import {
  type Fixture,
  fixtureFolder,
  openFixtureFolder,
  rangeOf,
  worstDifference,
} from '../../test/model/families/fixture.js'

const [folder = fixtureFolder, ...chosen] = process.argv.slice(2)
const all: readonly StartedEngine[] = ['wasm', 'cpu', 'tensorflow']
const engines = all.filter((engine) => chosen.length === 0 || chosen.includes(engine))

/** Worst errors of a family's variants, by engine, and with a cache. */
interface Row {
  readonly family: string
  readonly variants: string[]
  readonly errors: Map<string, number>
}

const rows = new Map<string, Row>()
for (const engine of engines) {
  try {
    await startEngine(engine)
  } catch (error) {
    console.error(`without ${engine}: ${(error as Error).message}`)
    continue
  }
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    if (!entry.isDirectory()) continue
    console.error(`${engine}: ${entry.name}`)
    const fixture = await openFixtureFolder(join(folder, entry.name))
    const { family } = fixture.config
    const row: Row = rows.get(family) ?? { family, variants: [], errors: new Map() }
    rows.set(family, row)
    if (engine === 'wasm') row.variants.push(entry.name.replace(/^[^-]*-/, ''))
    const logits = await forwardLogits(fixture.source, fixture.config, fixture.tokens, fixture.sequences)
    note(row, engine, relative(logits, fixture.logits))
    if (engine === 'wasm') note(row, 'cached', relative(await cached(fixture), fixture.logits))
  }
}
const columns = ['wasm', 'cached', 'cpu', 'tensorflow'].filter((name) =>
  [...rows.values()].some(({ errors }) => errors.has(name)),
)
console.log(`| family | variants | ${columns.join(' | ')} |`)
console.log(`| --- | --- | ${columns.map(() => '---').join(' | ')} |`)
for (const { family, variants, errors } of rows.values()) {
  const cells = columns.map((name) => errors.get(name)?.toExponential(1) ?? '-')
  console.log(`| ${family} | ${variants.join(', ')} | ${cells.join(' | ')} |`)
}

function note({ errors }: Row, name: string, error: number): void {
  errors.set(name, Math.max(error, errors.get(name) ?? 0))
}

function relative(found: Float32Array, expected: Float32Array): number {
  return worstDifference(found, expected) / rangeOf(expected)
}

/** The logits of every token, one token of each sequence at a time. */
async function cached({ source, config, tokens, sequences, logits }: Fixture): Promise<Float32Array> {
  const length = tokens.length / sequences
  const decoder = await loadDecoder(source, config)
  const caches = openCaches(decoder, sequences, length)
  const found = new Float32Array(logits.length)
  for (let position = 0; position < length; position++) {
    const column = Int32Array.from({ length: sequences }, (_, i) => tokens[i * length + position])
    put(await decodeTokens(decoder, caches, column), position, length, config, found)
  }
  closeCaches(caches)
  disposeDecoder(decoder)
  return found
}

function put(
  step: Float32Array,
  position: number,
  length: number,
  { vocabSize }: DecoderDescription,
  found: Float32Array,
): void {
  for (let sequence = 0; sequence * vocabSize < step.length; sequence++) {
    const own = step.subarray(sequence * vocabSize, (sequence + 1) * vocabSize)
    found.set(own, (sequence * length + position) * vocabSize)
  }
}
