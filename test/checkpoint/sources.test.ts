import { openAsBlob } from 'node:fs'
import { readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import {
  type BlobLike,
  blobSource,
  cachedSource,
  directorySource,
  httpSource,
  inspectModel,
  loadTokenizer,
  type ModelSource,
  openCheckpoint,
} from 'gptvq/model'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { CheckpointError, OptionError, UnsupportedError } from '../../src/common/errors.js'
import { type FileServer, type ServerFaults, serveFolder } from '../support/file-server.js'
import { tinyText, writeTinyModel } from '../support/tiny-model.js'
import { errorOf, temporaryFolder } from './fixtures.js'

let folder: string
const servers: FileServer[] = []

beforeEach(async () => {
  folder = await temporaryFolder()
  await writeTinyModel(folder)
})
afterEach(async () => {
  vi.unstubAllGlobals()
  for (const server of servers.splice(0)) await server.close()
})

async function serve(faults?: ServerFaults): Promise<FileServer> {
  const server = await serveFolder(folder, faults)
  servers.push(server)
  return server
}

async function blobs(): Promise<Map<string, BlobLike>> {
  const names = await readdir(folder)
  return new Map(
    await Promise.all(names.map(async (name) => [name, await openAsBlob(join(folder, name))] as const)),
  )
}

async function files(): Promise<File[]> {
  return Array.from(await blobs(), ([name, blob]) => new File([blob as Blob], name))
}

/** Cache storage as browsers have it, as far as it is used. */
function stubCaches(): Map<string, Response> {
  const stored = new Map<string, Response>()
  const cache = {
    match: async (url: string) => stored.get(url)?.clone(),
    put: async (url: string, response: Response) => void stored.set(url, response),
  }
  vi.stubGlobal('caches', { open: async () => cache })
  return stored
}

async function everyTensor(model: string | ModelSource): Promise<Map<string, Uint8Array>> {
  const checkpoint = await openCheckpoint(model)
  const tensors = new Map<string, Uint8Array>()
  for (const name of checkpoint.tensors.keys()) tensors.set(name, await checkpoint.readBytes(name))
  await checkpoint.close()
  return tensors
}

describe('a model from', () => {
  const sources: [string, () => Promise<ModelSource>][] = [
    ['blobs by name', async () => blobSource('picked', await blobs())],
    ['picked files', async () => blobSource('picked', await files())],
    ['a directory handle', async () => directorySource(await directoryOf(folder))],
    ['a URL', async () => httpSource((await serve()).url)],
    [
      'a URL by its files',
      async () => httpSource((await serve()).url, { files: (await readdir(folder)).slice() }),
    ],
    [
      'cache storage',
      async () => {
        stubCaches()
        return cachedSource((await serve()).url)
      },
    ],
  ]
  it.each(sources)('%s has the tensors and tokens of the folder itself', async (_, make) => {
    const source = await make()
    expect(await everyTensor(source)).toEqual(await everyTensor(folder))
    const text = tinyText(50)
    expect((await loadTokenizer(source)).encode(text)).toEqual((await loadTokenizer(folder)).encode(text))
    const { model, ...found } = await inspectModel(source)
    expect(model).toBe(source.place)
    expect(found).toEqual({ ...(await inspectModel(folder)), model: undefined })
  })
})

describe('a source of HTTP ranges', () => {
  it('fetches of the weights the header, and then the tensors that are asked for', async () => {
    const { url, requests } = await serve()
    const checkpoint = await openCheckpoint(httpSource(url, { files: await readdir(folder) }))
    const before = requests.length
    const { bytes } = checkpoint.tensors.get('model.norm.weight')!
    await checkpoint.readBytes('model.norm.weight')
    expect(requests.length).toBe(before + 1)
    const [, first, last] = /bytes=(\d+)-(\d+)$/.exec(requests[before])!.map(Number)
    expect(last - first + 1).toBe(bytes)
    const size = (await readFile(join(folder, 'model.safetensors'))).length
    const fetched = requests
      .filter((request) => request.includes('safetensors bytes='))
      .map((request) => /=(\d+)-(\d+)/.exec(request)!.slice(1).map(Number))
      .reduce((sum, [from, to]) => sum + to - from + 1, 0)
    expect(fetched).toBeLessThan(size / 2)
  })

  it.each<[string, ServerFaults, RegExp]>([
    ['does not know ranges', { noRanges: true }, /does not answer with ranges.*status 200.*cachedSource/],
    ['cuts them short', { shortRanges: true }, /gave \d+ bytes from byte \d+ on, expected \d+/],
  ])('is refused of a server that %s', async (_, faults, message) => {
    const error = await errorOf(openCheckpoint(httpSource((await serve(faults)).url)))
    expect(error).toBeInstanceOf(CheckpointError)
    expect(error.message).toMatch(message)
  })

  it('says which file is not there, and that a server is not', async () => {
    const { url, close } = await serve()
    const source = httpSource(url, { files: ['config.json', 'model.safetensors', 'missing.json'] })
    await expect(source.open('missing.json')).rejects.toThrow(/missing\.json: there is no such file/)
    await close()
    const error = await errorOf(openCheckpoint(httpSource(url)))
    expect(error).toBeInstanceOf(CheckpointError)
    expect(error.message).toMatch(/config\.json: cannot be fetched/)
  })

  it('finds a weights file that changed since it was opened', async () => {
    const checkpoint = await openCheckpoint(httpSource((await serve()).url))
    const path = join(folder, 'model.safetensors')
    await writeFile(path, Buffer.concat([await readFile(path), Buffer.alloc(4)]))
    await expect(checkpoint.readBytes('model.norm.weight')).rejects.toThrow(
      /bytes now, \d+ when it was opened/,
    )
  })
})

describe('cache storage', () => {
  it('is asked before the network, which the second opening does without', async () => {
    stubCaches()
    const { url, close } = await serve()
    const first = await everyTensor(await cachedSource(url, { files: await readdir(folder) }))
    await close()
    const second = await everyTensor(await cachedSource(url, { files: await readdir(folder) }))
    expect(second).toEqual(first)
  })

  it('keeps nothing of a file that the server refuses', async () => {
    const stored = stubCaches()
    const source = await cachedSource((await serve()).url, { files: ['config.json', 'none.json'] })
    expect(await source.list()).toEqual(['config.json'])
    expect(stored.size).toBe(1)
  })

  it('is missed by name where the platform has none', async () => {
    await expect(cachedSource('https://example.org/m/')).rejects.toThrow(UnsupportedError)
  })
})

describe('sources of blobs', () => {
  it('refuse no files, and two of one name', () => {
    expect(() => blobSource('empty', [])).toThrow(/empty: holds no files/)
    const twice = [new File([], 'config.json'), new File([], 'config.json')]
    expect(() => blobSource('two', twice)).toThrow(/two files named "config.json"/)
  })

  it('name the file that cannot be read any more', async () => {
    const broken = {
      size: 10,
      slice: () => broken,
      arrayBuffer: () => Promise.reject(new Error('the file was changed')),
    }
    const source = blobSource('picked', new Map([['config.json', broken]]))
    const error = await errorOf(openCheckpoint(source))
    expect(error).toBeInstanceOf(CheckpointError)
    expect(error.message).toMatch(/picked\/config\.json: cannot be read \(the file was changed\)/)
  })

  it('of a GGUF file alone are that model', () => {
    expect(blobSource('picked', new Map([['model.Q4.gguf', new Blob([])]])).main).toBe('model.Q4.gguf')
  })
})

it('what is neither a path nor files is refused by name', async () => {
  for (const model of [{}, null, 5, { list: 1, open: 2, size: 3 }]) {
    await expect(openCheckpoint(model as unknown as string)).rejects.toThrow(OptionError)
  }
})

async function directoryOf(path: string) {
  const entries = await readdir(path)
  return {
    name: 'picked',
    async *values() {
      yield { kind: 'directory' }
      for (const name of entries) {
        const blob = await openAsBlob(join(path, name))
        yield { kind: 'file', getFile: async () => new File([blob], name) }
      }
    },
  }
}
