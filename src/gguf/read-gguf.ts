import { basename, dirname, join } from 'node:path'
import { type ByteSource, createFilePool, type FilePool } from '../checkpoint/byte-source.js'
import { quoted } from '../checkpoint/safetensors/header-text.js'
import { CheckpointError, UnsupportedError } from '../errors.js'
import { bytesOfType, type GgufType, ggufTypes } from './blocks/tensor-types.js'
import { type GgufMetadata, ggufMetadata } from './metadata.js'

/** A tensor of a GGUF file. */
export interface GgufTensor {
  readonly name: string
  readonly type: GgufType
  /** Sizes of the dimensions, outermost first (the file has them the other way round). */
  readonly shape: readonly number[]
  /** Bytes of its data. */
  readonly bytes: number
  /** Path of the file that holds it. */
  readonly file: string
  /** Bytes `start` up to but not including `end`, counted within the tensor. */
  read(start: number, end: number): Promise<Uint8Array>
}

/** An open GGUF file: its header is in memory, its data on disk. */
export interface GgufFile {
  /** Its path, as given; of the first when there are several. */
  readonly path: string
  readonly metadata: GgufMetadata
  /** By name. */
  readonly tensors: ReadonlyMap<string, GgufTensor>
  /** Can be called again. */
  close(): Promise<void>
}

/** What the parser gives that is used here. */
interface ParsedHeader {
  readonly metadata: Readonly<Record<string, unknown>>
  readonly tensorInfos: readonly {
    readonly name: string
    readonly shape: readonly bigint[]
    readonly dtype: number
    readonly offset: bigint
  }[]
  readonly tensorDataOffset: bigint
  readonly littleEndian: boolean
}

const MAX_OPEN_FILES = 4
const SHARD = /^(.*)-(\d{5})-of-(\d{5})\.gguf$/

/** Whether a path names a GGUF file. */
export function isGgufPath(path: string): boolean {
  return /\.gguf$/i.test(path)
}

/**
 * Opens a GGUF file: reads and checks its header, and of the data nothing. A name like `model-00001-of-00003.gguf`
 * opens all three.
 *
 * @throws CheckpointError when a file is missing, damaged or cut short
 * @throws UnsupportedError for a type of tensor that is not read, and for a big-endian file
 */
export async function openGguf(path: string): Promise<GgufFile> {
  const pool = createFilePool(MAX_OPEN_FILES)
  try {
    const tensors = new Map<string, GgufTensor>()
    let metadata: GgufMetadata | undefined
    for (const file of filesOf(path)) {
      const source = await pool.open(file)
      const header = await parseHeader(source)
      metadata ??= ggufMetadata(header.metadata, file)
      addTensors(tensors, header, source)
    }
    return { path, metadata: metadata!, tensors, close: closeOf(pool) }
  } catch (error) {
    await pool.close()
    throw error
  }
}

function closeOf(pool: FilePool): () => Promise<void> {
  return () => pool.close()
}

function filesOf(path: string): string[] {
  const [, stem, shard, shards] = SHARD.exec(basename(path)) ?? []
  if (shard === undefined) return [path]
  if (Number(shard) !== 1) {
    const first = `${stem}-00001-of-${shards}.gguf`
    throw new CheckpointError(`${path}: is part ${Number(shard)} of a model; give the first part, ${first}`)
  }
  return Array.from({ length: Number(shards) }, (_, i) =>
    join(dirname(path), `${stem}-${String(i + 1).padStart(5, '0')}-of-${shards}.gguf`),
  )
}

async function parseHeader({ path, size }: ByteSource): Promise<ParsedHeader> {
  const { gguf } = await import('@huggingface/gguf')
  if (size < 24) throw damaged(path, `has ${size} bytes, less than any header`)
  let header: ParsedHeader
  try {
    header = (await gguf(path, { allowLocalFile: true })) as unknown as ParsedHeader
  } catch (cause) {
    throw damaged(path, cause instanceof Error ? cause.message : String(cause), cause)
  }
  if (header.littleEndian) return header
  throw new UnsupportedError(
    `${path}: is a big-endian file; expected a little-endian one. Convert the model again on a little-endian machine`,
  )
}

function addTensors(tensors: Map<string, GgufTensor>, header: ParsedHeader, source: ByteSource): void {
  const start = Number(header.tensorDataOffset)
  for (const { name, dtype, shape: innermostFirst, offset } of header.tensorInfos) {
    const { path, size } = source
    if (tensors.has(name)) throw damaged(path, `the tensor ${quoted(name)} is there twice`)
    const type = typeOf(dtype, name, path)
    const shape = innermostFirst.map(Number).reverse()
    const count = shape.reduce((product, dimension) => product * dimension, 1)
    const columns = shape.at(-1) ?? 1
    if (columns % type.blockValues !== 0) {
      throw damaged(
        path,
        `rows of the tensor ${quoted(name)} have ${columns} values, no multiple of ${type.blockValues} (${type.name})`,
      )
    }
    const bytes = bytesOfType(type, count)
    const position = start + Number(offset)
    if (!Number.isSafeInteger(position + bytes) || position + bytes > size) {
      throw damaged(
        path,
        `the tensor ${quoted(name)} needs bytes up to ${position + bytes}, but the file has ${size}`,
      )
    }
    const read = (from: number, to: number) => source.readAt(position + from, to - from)
    tensors.set(name, { name, type, shape, bytes, file: path, read })
  }
}

function typeOf(id: number, name: string, path: string): GgufType {
  const type = ggufTypes.find((candidate) => candidate.id === id)
  if (type !== undefined) return type
  throw new UnsupportedError(
    `${path}: tensor ${quoted(name)} is of GGUF type ${id}, which is not read; supported: ` +
      `${ggufTypes.map((known) => known.name).join(', ')}. Use a file of one of these, or the model it was made of`,
  )
}

function damaged(path: string, what: string, cause?: unknown): CheckpointError {
  return new CheckpointError(`${path}: is no sound GGUF file: ${what}. Fetch it again`, { cause })
}
