import type { ByteSource } from '../checkpoint/byte-source.js'
import type { ModelSource } from '../checkpoint/model-source.js'
import { quoted } from '../checkpoint/safetensors/header-text.js'
import { CheckpointError, UnsupportedError } from '../common/errors.js'
import { bytesOfType, type GgufType, ggufTypes } from './blocks/tensor-types.js'
import { type GgufMetadata, ggufMetadata } from './metadata.js'
import { damagedGguf, type ParsedHeader, parseHeader } from './parse-header.js'

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

const SHARD = /^(.*)-(\d{5})-of-(\d{5})\.gguf$/

/** Whether a path names a GGUF file. */
export function isGgufPath(path: string): boolean {
  return /\.gguf$/i.test(path)
}

/**
 * Opens a GGUF file, the `main` of `model`: reads and checks its header, and of the data nothing. A name like
 * `model-00001-of-00003.gguf` opens all three.
 *
 * @throws CheckpointError when a file is missing, damaged or cut short
 * @throws UnsupportedError for a type of tensor that is not read, and for a big-endian file
 */
export async function openGguf(model: ModelSource): Promise<GgufFile> {
  const close = async () => model.close?.()
  try {
    const tensors = new Map<string, GgufTensor>()
    let metadata: GgufMetadata | undefined
    for (const name of partsOf(model)) {
      const source = await model.open(name)
      const header = await parseHeader(source)
      metadata ??= ggufMetadata(header.metadata, source.path)
      addTensors(tensors, header, source)
    }
    return { path: model.place, metadata: metadata!, tensors, close }
  } catch (error) {
    await close()
    throw error
  }
}

function partsOf({ place, main = '' }: ModelSource): string[] {
  const [, stem, shard, shards] = SHARD.exec(main) ?? []
  if (shard === undefined) return [main]
  if (Number(shard) !== 1) {
    const first = `${stem}-00001-of-${shards}.gguf`
    throw new CheckpointError(`${place}: is part ${Number(shard)} of a model; give the first part, ${first}`)
  }
  return Array.from(
    { length: Number(shards) },
    (_, i) => `${stem}-${String(i + 1).padStart(5, '0')}-of-${shards}.gguf`,
  )
}

function addTensors(tensors: Map<string, GgufTensor>, header: ParsedHeader, source: ByteSource): void {
  const start = Number(header.tensorDataOffset)
  for (const { name, dtype, shape: innermostFirst, offset } of header.tensorInfos) {
    const { path, size } = source
    if (tensors.has(name)) throw damagedGguf(path, `the tensor ${quoted(name)} is there twice`)
    const type = typeOf(dtype, name, path)
    const shape = innermostFirst.map(Number).reverse()
    const count = shape.reduce((product, dimension) => product * dimension, 1)
    const columns = shape.at(-1) ?? 1
    if (columns % type.blockValues !== 0) {
      throw damagedGguf(
        path,
        `rows of the tensor ${quoted(name)} have ${columns} values, no multiple of ${type.blockValues} (${type.name})`,
      )
    }
    const bytes = bytesOfType(type, count)
    const position = start + Number(offset)
    if (!Number.isSafeInteger(position + bytes) || position + bytes > size) {
      throw damagedGguf(
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
