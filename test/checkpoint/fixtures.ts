import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach } from 'vitest'
import type { ByteSource } from '../../src/checkpoint/byte-source.js'
import { buildHeader, type HeaderEntry } from '../../src/checkpoint/safetensors/safetensors-header.js'

const folders: string[] = []

afterEach(async () => {
  for (const folder of folders.splice(0)) await rm(folder, { recursive: true, force: true })
})

/** An empty folder that is removed after the test. */
export async function temporaryFolder(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'gptvq-checkpoint-'))
  folders.push(folder)
  return folder
}

/** A safetensors file around any header text, however wrong. */
export function fileOf(header: string | Uint8Array, data: Uint8Array = new Uint8Array(0)): Uint8Array {
  const json = typeof header === 'string' ? new TextEncoder().encode(header) : header
  const file = new Uint8Array(8 + json.length + data.length)
  new DataView(file.buffer).setBigUint64(0, BigInt(json.length), true)
  file.set(json, 8)
  file.set(data, 8 + json.length)
  return file
}

/** A safetensors file of the given tensors, in this order. */
export function validFile(
  tensors: readonly (HeaderEntry & { readonly data: Uint8Array })[],
  metadata?: Record<string, string>,
): Uint8Array {
  return new Uint8Array(Buffer.concat([buildHeader(tensors, metadata), ...tensors.map(({ data }) => data)]))
}

/** A source over an array that records what is asked of it. */
export function arraySource(bytes: Uint8Array): ByteSource & { readonly asked: [number, number][] } {
  const asked: [number, number][] = []
  return {
    path: 'array.safetensors',
    size: bytes.length,
    asked,
    async readAt(position, length) {
      asked.push([position, length])
      return bytes.slice(position, position + length)
    },
  }
}

export const close = async () => {}

/** Every file below `folder` with its content, folders ending in a slash: two equal results mean two equal trees. */
export async function tree(folder: string): Promise<Record<string, string>> {
  const found: Record<string, string> = {}
  for (const entry of await readdir(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name)
    if (!entry.isDirectory()) found[entry.name] = (await readFile(path)).toString('base64')
    else {
      found[`${entry.name}/`] = ''
      for (const [name, content] of Object.entries(await tree(path))) found[`${entry.name}/${name}`] = content
    }
  }
  return found
}

/** The error that `promise` rejects with. */
export async function errorOf(promise: Promise<unknown>): Promise<Error> {
  const result = await promise.then(
    () => undefined,
    (error: unknown) => error,
  )
  if (result instanceof Error) return result
  throw new Error('expected a rejection')
}
