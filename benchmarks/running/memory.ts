import { fork } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { type RandomFolder, writeRandomFolder } from '../common/random-folder.js'
import { scalarLayer, vectorLayer } from '../common/random-layers.js'
import type { ModelSizes } from '../common/random-model.js'
import type { Row, Table } from '../common/report.js'
import type { SuiteOptions } from '../common/suites.js'
import type { PeakMemory } from './memory-child.js'

/** The memory that a model takes while it writes, over what its folder takes on the disk. */
export async function run({ quick }: SuiteOptions): Promise<Table[]> {
  const [prompt, count] = quick ? [4, 2] : [64, 4]
  const small = { name: 'tiny', hidden: 64, inner: 128, heads: 4, kvHeads: 2, blocks: 1, words: 4096 }
  const { peak: alone } = await measured({ sizes: small, make: pairs, head: false }, [4, 2])
  const rows: Row[] = []
  for (const { form, ...folder } of quick ? formsOf(small).slice(0, 1) : formsOf(large)) {
    const { bytes, peak, loaded, cacheBytes } = await measured(folder, [prompt, count])
    rows.push({
      form,
      folder: 1e-6 * bytes,
      loaded: 1e-6 * loaded,
      peak: 1e-6 * peak,
      cache: 1e-6 * cacheBytes,
      alone: 1e-6 * alone,
      ratio: (peak - cacheBytes - alone) / bytes,
    })
  }
  return [
    {
      id: 'memory',
      title: 'Memory while text is written',
      note:
        'A process that opens a quantized folder of random weights ' +
        (quick ? '' : '(hidden 2048, feed-forward 5632, 16 blocks, 32000 words: 0.9 billion weights) ') +
        `and writes ${count} tokens behind a prompt of ${prompt}: the most memory it had at any time (VmHWM), megabytes. ` +
        'Program: the same with a model of almost nothing. To the folder: peak less cache and program, over the folder.',
      columns: [
        { key: 'form', label: 'layers; head' },
        { key: 'folder', label: 'folder', digits: 3 },
        { key: 'loaded', label: 'loaded', digits: 3 },
        { key: 'peak', label: 'peak', digits: 3 },
        { key: 'cache', label: 'cache', digits: 3 },
        { key: 'alone', label: 'program', digits: 3 },
        { key: 'ratio', label: 'to the folder', digits: 3 },
      ],
      rows,
      keys: ['form'],
      compared: 'peak',
    },
  ]
}

const pairs = (rows: number, cols: number) => vectorLayer(rows, cols, {})
const trellis = (rows: number, cols: number) => vectorLayer(rows, cols, { trellisBits: 8 })
const nibbles = (rows: number, cols: number) => scalarLayer(rows, cols, 4, 128)
const bytes = (rows: number, cols: number) => scalarLayer(rows, cols, 8, 128)

const large: ModelSizes = {
  name: '1B',
  hidden: 2048,
  inner: 5632,
  heads: 32,
  kvHeads: 8,
  blocks: 16,
  words: 32000,
}

const formsOf = (sizes: ModelSizes): (RandomFolder & { readonly form: string })[] => [
  { form: '2-D, 2 bits; 8 bits', sizes, make: pairs, head: bytes },
  { form: '2-D, 2 bits, trellis; 8 bits', sizes, make: trellis, head: bytes },
  { form: 'scalar, 4 bits; 8 bits', sizes, make: nibbles, head: bytes },
  { form: '2-D, 2 bits, trellis; bf16, the embedding', sizes, make: trellis, head: false },
]

async function measured(
  made: RandomFolder,
  tokens: readonly number[],
): Promise<PeakMemory & { readonly bytes: number }> {
  const parent = await mkdtemp(join(tmpdir(), 'gptvq-memory-'))
  const folder = join(parent, 'model')
  try {
    const bytes = await writeRandomFolder(folder, made)
    return { bytes, ...(await peakOf([folder, ...tokens.map(String), 'float32'])) }
  } finally {
    await rm(parent, { recursive: true, force: true })
  }
}

function peakOf(args: readonly string[]): Promise<PeakMemory> {
  return new Promise((resolve, reject) => {
    const child = fork(fileURLToPath(new URL('memory-child.ts', import.meta.url)), args)
    let found: PeakMemory | undefined
    child.on('message', (message) => {
      found = message as PeakMemory
    })
    child.on('error', reject)
    child.on('exit', (code, signal) => {
      if (found !== undefined && code === 0) resolve(found)
      else reject(new Error(`the process that writes ended with ${signal ?? `exit code ${code}`}`))
    })
  })
}
