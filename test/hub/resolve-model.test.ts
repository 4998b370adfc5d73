import { createHash } from 'node:crypto'
import { mkdir, readdir, readFile, readlink, rm, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { gguf } from '@huggingface/gguf'
import { exportGguf, exportOnnx } from 'gptvq/export'
import { openGenerator, startServer } from 'gptvq/generate'
import { evaluateModel, inspectModel, openCheckpoint, quantizeModel, resolveModel } from 'gptvq/model'
import { trainModel } from 'gptvq/train'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { createCheckpointWriter } from '../../src/checkpoint/output/checkpoint-writer.js'
import { TRIES } from '../../src/hub/hub-fetch.js'
import { hubSettings, parseHubName } from '../../src/hub/hub-settings.js'
import { hubName, modelName } from '../../src/hub/snapshot-name.js'
import { tinyText } from '../support/tiny-model.js'
import { commit, startHub } from './hub-server.js'
import { filesOf, openTinyHub, type TinyHub } from './tiny-hub.js'

let { root, hub, env } = {} as TinyHub

beforeEach(async () => {
  ;({ root, hub, env } = await openTinyHub())
})
afterEach(async () => {
  vi.unstubAllEnvs()
  await hub.close()
  await rm(root, { recursive: true, force: true })
})

/** Copies a model with its weights in shards of 16 kB. */
async function inShards(model: string, folder: string): Promise<void> {
  const checkpoint = await openCheckpoint(model)
  const writer = await createCheckpointWriter(folder, { maxShardBytes: 16_000 })
  for (const [name, { dtype, shape }] of checkpoint.tensors) {
    await writer.add(name, dtype, shape, await checkpoint.readBytes(name))
  }
  await writer.addFile('config.json', checkpoint.configText)
  await writer.finish()
  await checkpoint.close()
}

const resolve = (name = 'org/tiny', more: object = {}) => resolveModel(name, { env, patience: 1, ...more })
const repo = () => join(root, 'cache', 'models--org--tiny')
const weights = 'model.safetensors'

describe('a model is fetched into the cache that other tools use', () => {
  it('blobs by hash, links in the snapshot of the commit, a reference; only the files that are needed', async () => {
    const seen: number[] = []
    const snapshot = await resolve('org/tiny@v1', {
      onProgress: ({ done }: { done: number }) => seen.push(done),
    })
    expect(snapshot).toBe(join(repo(), 'snapshots', commit))
    expect(await readdir(snapshot)).toEqual(['README.md', 'config.json', weights, 'tokenizer.json'])
    expect(await readFile(join(repo(), 'refs', 'v1'), 'utf8')).toBe(commit)
    const link = await readlink(join(snapshot, weights))
    expect(link).toMatch(/^\.\.\/\.\.\/blobs\/[0-9a-f]{64}$/)
    expect(await readlink(join(snapshot, 'config.json'))).toMatch(/^\.\.\/\.\.\/blobs\/[0-9a-f]{40}$/)
    const [fetched, original] = [
      await readFile(join(snapshot, weights)),
      await readFile(join(root, 'model', weights)),
    ]
    expect(fetched.equals(original)).toBe(true)
    expect(seen.at(-1)).toBeCloseTo(1)
    expect(seen.every((value, i) => i === 0 || value >= seen[i - 1])).toBe(true)
  })

  it('in shards: the index and all that it names, and nothing beside them', async () => {
    const sharded = join(root, 'sharded')
    await inShards(join(root, 'model'), sharded)
    await hub.close()
    const files = await filesOf(sharded)
    files.set('model-of-another-kind.safetensors', new Uint8Array(3000))
    hub = await startHub(files)
    const snapshot = await resolve('org/tiny', { env: { ...env, HF_ENDPOINT: hub.url } })
    const shards = [...files.keys()].filter((name) => name.startsWith('model-0'))
    expect(shards.length).toBeGreaterThan(2)
    const fetched = (await readdir(snapshot)).filter((name) => name.startsWith('model'))
    expect(fetched).toEqual([...shards, `${weights}.index.json`].toSorted())
    const [ours, theirs] = [await openCheckpoint(snapshot), await openCheckpoint(join(root, 'model'))]
    expect([...ours.tensors.keys()].toSorted()).toEqual([...theirs.tensors.keys()].toSorted())
    for (const name of theirs.tensors.keys()) {
      expect(await ours.readFloats(name)).toEqual(await theirs.readFloats(name))
    }
    await ours.close()
    await theirs.close()
  })

  it('stands wherever a folder can', async () => {
    for (const [name, value] of Object.entries(env)) vi.stubEnv(name, value)
    const checkpoint = await openCheckpoint('org/tiny')
    await checkpoint.close()
    expect((await inspectModel('org/tiny')).architecture).toBe('LlamaForCausalLM')
  })

  it('as far as a library call is told: its steps name what is fetched, and a stop keeps it from asking', async () => {
    for (const [name, value] of Object.entries(env)) vi.stubEnv(name, value)
    const signal = AbortSignal.abort()
    const model = join(root, 'model')
    const output = join(root, 'out')
    const text = tinyText(600)
    const calls: (() => Promise<unknown>)[] = [
      () => openCheckpoint('org/tiny', { signal }),
      () => openGenerator({ model: 'org/tiny', signal }),
      () => evaluateModel({ model, reference: 'org/tiny', text, signal }),
      () => quantizeModel({ model: 'org/tiny', output, method: 'rtn', signal }),
      () => exportGguf({ model: 'org/tiny', output, signal }),
      () => exportOnnx({ model: 'org/tiny', output, signal }),
      () => trainModel({ model, method: 'qat', teacher: 'org/tiny', output, text, signal }),
    ]
    for (const call of calls) await expect(call(), call.toString()).rejects.toMatchObject({ code: 'ABORTED' })
    expect(hub.log).toEqual([])
    const told: { step: string; done: number }[] = []
    const checkpoint = await openCheckpoint('org/tiny', { onProgress: (one) => told.push(one) })
    await checkpoint.close()
    expect(told.at(-1)).toEqual({ step: `fetching org/tiny ${weights} (100 %)`, done: 0 })
    expect(told.map(({ step }) => step)).toContain('fetching org/tiny config.json (0 %)')
    expect(told.every(({ done }) => done === 0)).toBe(true)
  })

  it('and served and exported by its name, not by that of its snapshot', async () => {
    const snapshot = await resolve()
    const server = await startServer({ model: snapshot, port: 0, threads: 1 })
    await server.close()
    expect(server.model).toBe('tiny')
    const output = join(root, 'tiny.gguf')
    await exportGguf({ model: snapshot, output })
    const { metadata } = await gguf(output, { allowLocalFile: true })
    expect(metadata).toMatchObject({ 'general.name': 'tiny' })
  })

  it('is not fetched again, and is found without a network', async () => {
    const snapshot = await resolve()
    const requests = hub.log.filter((line) => line.includes('/resolve/')).length
    expect(await resolve('org/tiny@main')).toBe(snapshot)
    expect(hub.log.filter((line) => line.includes('/resolve/'))).toHaveLength(requests)
    await hub.close()
    // another spelling, so that nothing is remembered
    expect(await resolve(`org/tiny@${commit}`, { env: { ...env, HF_HUB_OFFLINE: '1' } })).toBe(snapshot)
  })

  it('with a token, which does not follow to another host', async () => {
    const store = await startHub(await filesOf(join(root, 'model')))
    const elsewhere = `${store.url.replace('127.0.0.1', 'localhost')}/store/${weights}`
    hub.trouble = (path) =>
      path.endsWith(`resolve/${commit}/${weights}`)
        ? { status: 302, headers: { Location: elsewhere } }
        : undefined
    await resolve('org/tiny', { env: { ...env, HF_TOKEN: 'secret' } })
    await store.close()
    const asked = hub.log.filter((line) => !line.startsWith('/store/'))
    expect(asked.filter((line) => !line.endsWith(' Bearer secret'))).toEqual([])
    expect(store.log).toEqual([`/store/${weights} - -`])
  })
})

describe('what goes wrong on the way', () => {
  it('a connection that is cut is gone on from where it was', async () => {
    hub.trouble = (path, count) =>
      path === `/store/${weights}` && count <= 2 ? { cutAfter: 5000 } : undefined
    const snapshot = await resolve()
    const ranges = hub.log.filter((line) => line.startsWith('/store/model')).map((line) => line.split(' ')[1])
    // what was on its way when the connection was cut may be lost
    expect(ranges).toHaveLength(3)
    expect(ranges[2]).toMatch(/^bytes=\d+-$/)
    const original = await readFile(join(root, 'model', weights))
    expect((await readFile(join(snapshot, weights))).equals(original)).toBe(true)
  })

  it('a fetch that failed is gone on from by the next one', async () => {
    hub.trouble = (path, count) =>
      path.startsWith('/store/model') ? { cutAfter: count === 1 ? 5000 : 0 } : undefined
    await expect(resolve()).rejects.toThrow(/cannot be reached/)
    hub.trouble = () => undefined
    await resolve()
    expect(hub.log.at(-1)).toMatch(/^\/store\/model\.safetensors bytes=\d+- -$/)
  })

  it('a connection that is cut more often than tries are made, each time later in the file', async () => {
    hub.trouble = (path, count) =>
      path === `/store/${weights}` && count <= TRIES + 1 ? { cutAfter: 15_000 } : undefined
    await expect(resolve()).resolves.toContain(commit)
    expect(hub.log.filter((line) => line.startsWith('/store/model')).length).toBeGreaterThan(TRIES)
  })

  it.each([`resolve/${commit}/config.json`, `revision/main`, `tree/${commit}`])(
    'answers of 429 and 5xx to %s are tried again',
    async (asked) => {
      hub.trouble = (path, count) => {
        if (!path.endsWith(asked)) return undefined
        return count === 1
          ? { status: 429, headers: { 'Retry-After': '0' } }
          : count === 2
            ? { status: 503 }
            : undefined
      }
      await expect(resolve()).resolves.toContain(commit)
    },
  )

  it('a wait that is asked for and longer than the hub counts requests is not waited for', async () => {
    const headers = { 'Retry-After': '86400' }
    for (const asked of ['/api/', '/store/']) {
      hub.trouble = (path) => (path.startsWith(asked) ? { status: 429, headers } : undefined)
      await expect(resolve()).rejects.toThrow(/asks for fewer requests \(429\)/)
    }
  })

  it('a cache that cannot be made is an error of the disk, and told in words', async () => {
    await writeFile(join(root, 'file'), '')
    const below = { ...env, HF_HUB_CACHE: join(root, 'file', 'cache') }
    await expect(resolve('org/tiny', { env: below })).rejects.toThrow(
      /cannot write .*HF_HUB_CACHE names another place.*\(ENOTDIR\)/,
    )
  })

  it.skipIf(process.platform !== 'linux')('a full disk is no fault of the network', async () => {
    const sha256 = createHash('sha256').update(await readFile(join(root, 'model', weights)))
    await mkdir(join(repo(), 'blobs'), { recursive: true })
    await symlink('/dev/full', join(repo(), 'blobs', `${sha256.digest('hex')}.incomplete`))
    await expect(resolve()).rejects.toThrow(/cannot write .*no space left on the disk \(ENOSPC\)/)
    expect(hub.log.filter((line) => line.startsWith('/store/model'))).toHaveLength(1)
  })

  it('content of another hash is refused and removed', async () => {
    hub.trouble = (path) => (path === `/store/${weights}` ? { spoil: true } : undefined)
    await expect(resolve()).rejects.toThrow(/model\.safetensors was fetched with the hash/)
    const blobs = await readdir(join(repo(), 'blobs'))
    expect(blobs.filter((name) => name.endsWith('.incomplete'))).toEqual([])
  })

  it.each([
    [403, { 'X-Error-Code': 'GatedRepo' }, /is gated: its owner asks for consent/],
    [401, {}, /refuses access \(401\).*HF_TOKEN/],
    [404, { 'X-Error-Code': 'RevisionNotFound' }, /no such revision/],
    [404, {}, /there is no such model/],
    [500, {}, /answers with an error \(500\)/],
  ])('an answer of %i %o is told in words', async (status, headers, message) => {
    hub.trouble = (path) => (path.startsWith('/api/') ? { status, headers } : undefined)
    await expect(resolve()).rejects.toThrow(message)
  })

  it('a hub that cannot be reached', async () => {
    await hub.close()
    await expect(resolve()).rejects.toThrow(
      /there is no folder of this name.*cannot be reached.*HF_HUB_OFFLINE=1/,
    )
  })

  it('a model that is not in the cache, offline', async () => {
    await expect(resolve('org/tiny', { env: { ...env, HF_HUB_OFFLINE: '1' } })).rejects.toThrow(
      /is not in the cache/,
    )
  })

  it('a model without safetensors', async () => {
    await hub.close()
    const files = await filesOf(join(root, 'model'))
    files.delete(weights)
    hub = await startHub(files)
    await expect(resolve('org/tiny', { env: { ...env, HF_ENDPOINT: hub.url } })).rejects.toThrow(
      /has no safetensors weights/,
    )
  })

  it('a stop leaves what was fetched', async () => {
    const controller = new AbortController()
    const onProgress = ({ done }: { done: number }) => done > 0.2 && controller.abort()
    await expect(resolve('org/tiny', { signal: controller.signal, onProgress })).rejects.toMatchObject({
      code: 'ABORTED',
    })
  })
})

describe('names', () => {
  it.each([
    ['models--org--some--model', 'some--model', 'org/some--model'],
    ['models--gpt2', 'gpt2', 'gpt2'],
  ])('a snapshot in %s is of %s', (folder, name, onHub) => {
    expect(modelName(join('cache', folder, 'snapshots', commit))).toBe(name)
    expect(hubName(join('cache', folder, 'snapshots', commit))).toBe(onHub)
  })

  it.each(['org/name', 'org/name@main', 'a.b-c/d_e.f@refs/pr/1'])('%s is a name', (name) => {
    expect(parseHubName(name)).toBeDefined()
  })

  it.each(['name', './org/name', '/org/name', 'a/b/c', 'org/model.gguf', 'org/..', 'org/name@'])(
    '%s is a path',
    (name) => {
      expect(parseHubName(name)).toBeUndefined()
    },
  )

  it('a folder of that name comes first', async () => {
    expect(await resolveModel('src/hub')).toBe('src/hub')
  })

  it('the cache is where the variables say', () => {
    expect(hubSettings({ HF_HOME: '/h' }).cache).toBe(join('/h', 'hub'))
    expect(hubSettings({ HF_HOME: '/h', HF_HUB_CACHE: '/c' }).cache).toBe('/c')
    expect(hubSettings({ HF_ENDPOINT: 'http://x/' }).endpoint).toBe('http://x')
  })
})
