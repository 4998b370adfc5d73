/** The page's worker: reads, quantizes, scores and writes, so that the page itself never waits. */
import { matrix, threadCount } from 'gptvq'
import { type Generator, openGenerator } from 'gptvq/generate'
import {
  allLinearLayers,
  blobSource,
  cutWindows,
  httpSource,
  inspectModel,
  type ModelSource,
  type OpenModel,
  openModel,
  type QuantizedLayer,
  quantizeModel,
  readTokens,
  scoreModels,
  withQuantizedLayers,
} from 'gptvq/model'
import { codebookGroup, codebookPlot, type LayerError, layerBars } from 'gptvq/report'
import type { Slot, ToPage, ToWorker } from './messages.js'

/** Of the model that comes with the page. */
const FILES = [
  'config.json',
  'generation_config.json',
  'model.safetensors',
  'tokenizer.json',
  'tokenizer_config.json',
]
const CONTEXT = 128
const WINDOWS = 8
const MOST_TOKENS = 60

/** A model that a slot holds: of the quantized slot either layers in memory, or a folder of its own. */
interface Held {
  readonly source: ModelSource
  readonly opened: OpenModel
  readonly layers?: ReadonlyMap<string, QuantizedLayer>
  generator?: Promise<Generator>
}

const scope = globalThis as unknown as {
  readonly location: { readonly href: string }
  postMessage(message: ToPage): void
  onmessage: (event: { readonly data: ToWorker }) => void
}
const tell = (message: ToPage) => scope.postMessage(message)
const base = new URL('model/', scope.location.href)

const held: Partial<Record<Slot, Held>> = {}
let stop = new AbortController()

scope.onmessage = async ({ data }) => {
  if (data.kind === 'stop') return stop.abort()
  stop = new AbortController()
  try {
    if (data.kind === 'open') await open(data.files)
    else if (data.kind === 'quantize') await quantize(data)
    else await write(data.prompt, data.temperature)
    tell({ kind: 'done', work: data.kind })
  } catch (error) {
    const stopped = stop.signal.aborted
    const message = error instanceof Error ? error.message : String(error)
    tell(stopped ? { kind: 'done', work: data.kind } : { kind: 'failed', work: data.kind, message })
  }
}
tell({ kind: 'ready', threads: threadCount() })

async function open(files: readonly File[] | null): Promise<void> {
  const source = files === null ? httpSource(base.href, { files: FILES }) : blobSource(nameOf(files), files)
  const opened = await openModel(source)
  const slot: Slot = opened.quantization === undefined ? 'plain' : 'quantized'
  await release('quantized')
  if (slot === 'plain') await release('plain')
  held[slot] = { source, opened }
  const { architecture, bytes, quantizedBitsPerValue, weights } = await inspectModel(source)
  const values = weights.reduce(
    (sum, { shape }) => sum + shape.reduce((product, size) => product * size, 1),
    0,
  )
  tell({
    kind: 'opened',
    slot,
    name: files === null ? 'tiny-llama' : source.place,
    architecture,
    weights: values,
    bytes,
    bitsPerValue: quantizedBitsPerValue ?? (8 * bytes) / values,
    comparable: comparable(),
  })
  if (slot === 'quantized' && comparable()) await score(opened)
}

/** Folders that were picked are named by the path of their first file. */
function nameOf(files: readonly File[]): string {
  const { webkitRelativePath: path } = files[0] as File & { webkitRelativePath?: string }
  return path ? path.split('/')[0] : 'files'
}

async function release(slot: Slot): Promise<void> {
  const { opened, generator } = held[slot] ?? {}
  delete held[slot]
  await generator?.then((each) => each.close())
  // layers in memory belong to the model in full precision, which stays open
  if (slot === 'plain' || opened !== held.plain?.opened) await opened?.close()
}

function comparable(): boolean {
  const [a, b] = [held.plain?.opened.config, held.quantized?.opened.config]
  return a !== undefined && b !== undefined && a.vocabSize === b.vocabSize && a.hiddenSize === b.hiddenSize
}

async function quantize({ bits, codebooks, width }: Extract<ToWorker, { kind: 'quantize' }>): Promise<void> {
  const plain = held.plain!
  await release('quantized')
  const started = performance.now()
  const layers = new Map<string, QuantizedLayer>()
  const bars: LayerError[] = []
  const of = allLinearLayers(plain.opened.config).length
  let drawing = Promise.resolve()
  const report = await quantizeModel({
    model: plain.source,
    bits,
    calibration: { text: await fetchText('calibration.txt') },
    sequences: 16,
    sequenceLength: CONTEXT,
    signal: stop.signal,
    ...(codebooks === 'plain' && { trellisBits: 0 }),
    onProgress: ({ step, done }) => tell({ kind: 'progress', step, done: 0.95 * done }),
    onLayer: (name, layer, { relativeError, bitsPerValue }) => {
      layers.set(name, layer)
      bars.push({ name: name.replace(/\.weight$/, ''), relativeError })
      const [number, drawn] = [bars.length, bars.slice()]
      drawing = drawing.then(async () => {
        const picture = await drawCodebook(plain.opened, name, layer, width)
        const facts = { name, number, of, relativeError, bitsPerValue: bitsPerValue.total }
        tell({ kind: 'layer', ...facts, picture, bars: layerBars(drawn, { width }) })
      })
    },
  })
  await drawing
  held.quantized = { ...plain, layers }
  delete held.quantized.generator
  const { before, after } = report.wholeModel
  tell({
    kind: 'quantized',
    bytes: after,
    bytesBefore: before,
    bitsPerValue: report.bitsPerValue,
    seconds: (performance.now() - started) / 1000,
  })
  await score({ source: withQuantizedLayers(plain.opened.source, layers), config: plain.opened.config })
}

async function drawCodebook(
  { source }: OpenModel,
  name: string,
  layer: QuantizedLayer,
  width: number,
): Promise<string> {
  if (!('layout' in layer)) return ''
  const { rows, cols } = layer.layout
  return codebookPlot(codebookGroup(layer, 0, matrix(rows, cols, await source.floats(name))), { width })
}

async function score(candidate: Pick<OpenModel, 'source' | 'config'>): Promise<void> {
  const { opened, source } = held.plain!
  const step = 'comparing the two on text that calibration has not seen'
  const text = { text: await fetchText('evaluation.txt') }
  const tokens = await readTokens(text, source, opened.config, stop.signal)
  const { reference, candidates } = await scoreModels({
    reference: opened,
    candidates: [candidate],
    windows: cutWindows(tokens, CONTEXT, WINDOWS, opened.config.firstToken),
    onProgress: ({ done, total }) => tell({ kind: 'progress', step, done: 0.95 + (0.05 * done) / total }),
    signal: stop.signal,
  })
  const [{ perplexity, klDivergence, top1Agreement }] = candidates
  tell({
    kind: 'scored',
    perplexity,
    perplexityBefore: reference!.perplexity,
    divergence: klDivergence!,
    agreement: top1Agreement!,
  })
}

async function fetchText(name: string): Promise<string> {
  const response = await fetch(new URL(`texts/${name}`, base))
  if (!response.ok) throw new Error(`${response.url}: the server answers with status ${response.status}`)
  return response.text()
}

async function write(prompt: string, temperature: number): Promise<void> {
  const slots = (['plain', 'quantized'] as const).filter((slot) => held[slot] !== undefined)
  await Promise.all(slots.map((slot) => writeOne(slot, prompt, temperature)))
}

async function writeOne(slot: Slot, prompt: string, temperature: number): Promise<void> {
  const model = held[slot]!
  model.generator ??= openGenerator({
    model: model.source,
    ...(model.layers && { layers: model.layers }),
    cacheBytes: 2 ** 26,
  })
  const generator = await model.generator
  let text = prompt
  let tokens = 0
  const started = performance.now()
  const options = { prompt, temperature, maxTokens: MOST_TOKENS, seed: 1, signal: stop.signal }
  for await (const token of generator.generate(options)) {
    text += token.text
    tokens++
    tell({ kind: 'text', slot, text, tokens, seconds: (performance.now() - started) / 1000 })
  }
}
