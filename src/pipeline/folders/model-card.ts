import type { Checkpoint } from '../../checkpoint/checkpoint.js'
import { readSmallFile } from '../../checkpoint/model-source.js'
import type { QuantizationConfig } from '../../checkpoint/quantized/quantized-config.js'
import { hubName } from '../../hub/snapshot-name.js'
import { reproduceCommand } from '../../report/page/reproduce-command.js'
import { type Card, readCard, withMembers, withoutScores, withTags, writeCard } from './card-matter.js'
import { trainedBy } from './trained-by.js'

/** The name of a model card. */
export const CARD_FILE = 'README.md'

/** What stands between the card of a folder and that of the model it was made of. */
const SEAM = '<!-- gptvq: below is the card of the model that this one was made of -->'

const NAMED_FORMATS = 4

/** A quantized layer, as a card counts it. */
export interface CardLayer {
  /** How it is stored, e.g. `'vq 2-D, 2 bits'`. */
  readonly format: string
  /** How many weights it stands for. */
  readonly values: number
  readonly bytes: number
  readonly relativeError: number | null
}

/** What the card of a quantized folder tells. */
export interface QuantizedFacts {
  readonly quantization: Omit<QuantizationConfig, 'modules'>
  readonly layers: readonly CardLayer[]
  /** How many other tensors have new values. */
  readonly changed: number
  /** Of all tensors. */
  readonly whole: { readonly values: number; readonly bytes: number; readonly bytesBefore: number }
}

/** The card of the model that a folder is made of, and its name on the hub, where it lies in the cache of the hub. */
export interface SourceCard {
  readonly text: string
  readonly name?: string | undefined
}

/** Reads the card of a model; one without is empty. */
export async function sourceCard({ files, otherFiles, folder }: Checkpoint): Promise<SourceCard> {
  const file = otherFiles.find(isCard)
  const text = file === undefined ? '' : new TextDecoder().decode(await readSmallFile(files, file))
  return { text, name: hubName(folder) }
}

/** Whether a companion is the model card; some file systems take names that differ only in case for the same. */
export function isCard(name: string): boolean {
  return name.toLowerCase() === CARD_FILE.toLowerCase()
}

/** The card of a quantized folder: what was done, what it came to, how to run it and to make it again. */
export function quantizedCard(facts: QuantizedFacts, source: SourceCard): string {
  const { method } = facts.quantization
  const own = ownCard(source.text)
  const base = source.name
  const members = {
    // a base that the model's own card names is that model's, which was not quantized here
    ...(base !== undefined && { base_model: base }),
    base_model_relation: base === undefined ? undefined : 'quantized',
    library_name: 'gptvq',
  }
  const matter = withTags(withMembers(withoutScores(own.matter), members), ['gptvq', method])
  const of = base === undefined ? 'a model' : `[${base}](https://huggingface.co/${base})`
  return joined(matter, own.text, [
    `# ${base === undefined ? 'A quantized model' : `${base.split('/').at(-1)}, quantized`}`,
    '',
    whatWasDone(facts, of),
    '',
    ...table(figures(facts)),
    '',
    '## How to run it',
    '',
    'Only gptvq reads this folder (`DIR` below); it makes copies for other runtimes.',
    '',
    '```sh',
    'npx gptvq run DIR                                               # a chat, or --prompt TEXT',
    'npx gptvq serve DIR                                             # an HTTP server',
    'npx gptvq export DIR --format gguf --out model.gguf             # for llama.cpp',
    'npx gptvq export DIR --format onnx --out OTHER                  # for transformers.js, onnxruntime',
    'npx gptvq dequantize DIR --out OTHER                            # for Python transformers',
    '```',
    '',
    ...howItWasMade(facts.quantization),
  ])
}

function whatWasDone({ quantization, layers, changed }: QuantizedFacts, of: string): string {
  const training = trainedBy(quantization.settings)
  const trained = training === undefined ? '' : `, then trained (\`${training}\`)`
  const others =
    changed === 0
      ? 'All other tensors are as they were.'
      : `Of the other tensors ${changed} have new values to go with them, the rest are as they were.`
  return `${layers.length} weight matrices of ${of}, quantized with gptvq${trained}. ${others}`
}

/** What the card of a quantized folder says of how it was made, with its heading; empty for any other. */
export function madeSection(card: string): string {
  const [, text] = /\n(## How it was made\n[\s\S]*)$/.exec(card) ?? []
  return text === undefined ? '' : text.split(SEAM)[0].trim()
}

/** The card of plain weights that were computed from a quantized folder, or the card as it is where it says nothing of that. */
export function dequantizedCard(method: string, source: SourceCard): string {
  return derivedCard(source, method, [
    '# Plain weights of a quantized model',
    '',
    `These weights are those of a model that gptvq quantized (method \`${method}\`), written out: as large as before it, and as`,
    'exact as after it.',
  ])
}

/** The card of an ONNX graph of a model, plain or quantized by `method`. */
export function onnxCard(method: string | undefined, source: SourceCard): string {
  const how = method === undefined ? '' : ` It was quantized with gptvq (method \`${method}\`).`
  const card = derivedCard(source, method, [
    '# ONNX graph of a model',
    '',
    `\`onnx/model.onnx\` computes the model in transformers.js and onnxruntime.${how}`,
  ])
  const { matter, text } = readCard(card)
  return writeCard({
    matter: withTags(withMembers(matter, { library_name: 'transformers.js' }), ['onnx']),
    text,
  })
}

/** The card of a model that was distilled from another. */
export function distilledCard(source: SourceCard): string {
  return derivedCard(source, undefined, [
    '# A distilled model',
    '',
    'Trained with gptvq to predict what a larger model does; weights and figures are not those of the card below.',
  ])
}

function derivedCard(source: SourceCard, method: string | undefined, lines: readonly string[]): string {
  const own = ownCard(source.text)
  const members = { library_name: undefined, base_model_relation: undefined }
  const matter = withMembers(withoutScores(own.matter), members)
  return joined(withTags(matter, [], ['gptvq', ...(method === undefined ? [] : [method])]), own.text, lines)
}

/** A card without what an earlier folder added to it. */
function ownCard(text: string): Card {
  const card = readCard(text)
  const at = card.text.lastIndexOf(SEAM)
  return at < 0 ? card : { ...card, text: card.text.slice(at + SEAM.length).trimStart() }
}

function joined(matter: ReadonlyMap<string, string>, own: string, lines: readonly string[]): string {
  const below = own.trim() === '' ? [] : ['', SEAM, '', own.trimEnd()]
  return writeCard({ matter, text: ['', ...lines, ...below, ''].join('\n') })
}

function figures({ quantization, layers, whole }: QuantizedFacts): [string, string][] {
  const sum = (of: (layer: CardLayer) => number) => layers.reduce((total, layer) => total + of(layer), 0)
  const formats = new Map<string, number>()
  for (const { format } of layers) formats.set(format, (formats.get(format) ?? 0) + 1)
  const errors = layers.flatMap(({ relativeError }) => (relativeError === null ? [] : [relativeError]))
  const bits = (bytes: number, values: number) => ((8 * bytes) / Math.max(1, values)).toFixed(3)
  const training = trainedBy(quantization.settings)
  const rows: [string, string][] = [
    [
      'method',
      [quantization.method, ...(training === undefined ? [] : [`then trained: ${training}`])].join(', '),
    ],
    ['stored as', describeFormats(formats)],
    [
      'bits per quantized weight, counted from the bytes',
      bits(
        sum(({ bytes }) => bytes),
        sum(({ values }) => values),
      ),
    ],
    ['bits per weight of the whole model', bits(whole.bytes, whole.values)],
    [
      'bytes of the weights',
      `${whole.bytes.toLocaleString('en')}, ${whole.bytesBefore.toLocaleString('en')} before`,
    ],
  ]
  if (errors.length === layers.length) {
    const mean = errors.reduce((total, error) => total + error, 0) / errors.length
    rows.push(['mean relative error of the layers on the calibration text', mean.toPrecision(3)])
  }
  const { activations } = quantization
  if (activations !== undefined) rows.push(['activations', 'rounded where the model is run'])
  return rows
}

/** The formats of most layers; mixed bits have dozens. */
function describeFormats(formats: ReadonlyMap<string, number>): string {
  const ordered = [...formats].sort(([, a], [, b]) => b - a)
  const named = ordered.slice(0, NAMED_FORMATS).map(([format, count]) => `${format} (${count})`)
  const others = ordered.slice(NAMED_FORMATS).reduce((sum, [, count]) => sum + count, 0)
  return [...named, ...(others > 0 ? [`${others} in others`] : [])].join('; ')
}

/** Settings, inputs, versions, and the command, as far as a folder says. */
function howItWasMade({ method, settings, run }: Omit<QuantizationConfig, 'modules'>): string[] {
  const stated = Object.entries(settings).map(([name, value]): [string, string] => [
    `\`${name}\``,
    typeof value === 'object' ? JSON.stringify(value) : String(value),
  ])
  const lines = ['## How it was made', '']
  if (run !== undefined && 'weights' in run) {
    const data = { model: 'DIR', method, settings, layers: [], kept: { tensors: 0, bytes: 0 }, made: run }
    if (run.command === undefined) lines.push('```sh', reproduceCommand(data), '```', '')
    lines.push(...sources(run), '')
  }
  return [...lines, ...table(stated, 'setting', 'value')]
}

function sources(run: Readonly<Record<string, unknown>>): string[] {
  const { version, node, engine, kernels, products, weights, start, teacher, calibration } = run
  const text = calibration as { kind?: unknown; file?: unknown; sha256?: unknown } | null | undefined
  const made = [
    `gptvq ${version}, Node ${node}, engine ${engine ?? 'none'}, kernels ${kernels}, products ${products}`,
    `weights: SHA-256 \`${weights}\``,
    ...(start === undefined ? [] : [`quantized weights that training began with: SHA-256 \`${start}\``]),
    ...(teacher === undefined ? [] : [`weights of the teacher: SHA-256 \`${teacher}\``]),
  ]
  if (text) {
    const file = text.file === undefined ? '' : ` \`${text.file}\``
    const digest = text.sha256 === undefined ? '' : `, SHA-256 \`${text.sha256}\``
    made.push(
      text.kind === 'own'
        ? 'calibration: text that the model wrote'
        : `calibration: ${text.kind}${file}${digest}`,
    )
  }
  return [
    ...made.map((line) => `- ${line}`),
    '',
    'The same weights, text, versions, engine and kind of processor give the same bytes.',
  ]
}

function table(rows: readonly (readonly [string, string])[], ...head: string[]): string[] {
  const cell = (text: string) => text.replaceAll('|', '\\|').replaceAll('\n', ' ')
  const line = (cells: readonly string[]) => `| ${cells.map(cell).join(' | ')} |`
  return [line(head.length === 0 ? ['', ''] : head), '| --- | --- |', ...rows.map(line)]
}
