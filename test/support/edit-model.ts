import { cp, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'

type Json = Record<string, unknown>

/** The entries of a safetensors header, and the bytes behind it. */
export interface RawFile {
  header: Record<string, { dtype: string; shape: number[]; data_offsets: [number, number] }>
  data: Buffer
}

/** Copies a model folder and changes its `config.json`. */
export async function withConfig(from: string, to: string, change: (config: Json) => void): Promise<string> {
  await cp(from, to, { recursive: true })
  const path = join(to, 'config.json')
  const config = JSON.parse(await readFile(path, 'utf8')) as Json
  change(config)
  await writeFile(path, JSON.stringify(config))
  return to
}

/** Copies a model folder of one weights file and changes that file, unchecked. */
export async function withWeights(
  from: string,
  to: string,
  change: (file: RawFile) => void,
): Promise<string> {
  await cp(from, to, { recursive: true })
  const path = join(to, 'model.safetensors')
  const bytes = await readFile(path)
  const start = 8 + Number(bytes.readBigUInt64LE(0))
  const file: RawFile = {
    header: JSON.parse(bytes.subarray(8, start).toString()),
    data: bytes.subarray(start),
  }
  change(file)
  const json = Buffer.from(JSON.stringify(file.header))
  const text = Buffer.concat([json, Buffer.alloc((8 - (json.length % 8)) % 8, ' ')])
  const length = Buffer.alloc(8)
  length.writeBigUInt64LE(BigInt(text.length))
  await writeFile(path, Buffer.concat([length, text, file.data]))
  return to
}

/** Adds a tensor behind the others. */
export function addTensor(
  file: RawFile,
  name: string,
  dtype: string,
  shape: number[],
  bytes: Uint8Array,
): void {
  const start = file.data.length
  file.header[name] = { dtype, shape, data_offsets: [start, start + bytes.length] }
  file.data = Buffer.concat([file.data, bytes])
}

/** The `quantization_config` of a `config.json`. */
export function quantizationOf(config: Json): {
  method: string
  settings: Json
  modules: Record<string, Json>
} {
  return config.quantization_config as ReturnType<typeof quantizationOf>
}
