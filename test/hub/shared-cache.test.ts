import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { copyFileSync, renameSync, rmSync } from 'node:fs'
import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { hostname } from 'node:os'
import { join } from 'node:path'
import { resolveModel } from 'gptvq/model'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { aloneWithBlob } from '../../src/hub/blob-lock.js'
import { commit } from './hub-server.js'
import { openTinyHub, type TinyHub } from './tiny-hub.js'

let { root, hub, env } = {} as TinyHub

beforeEach(async () => {
  ;({ root, hub, env } = await openTinyHub())
})
afterEach(async () => {
  vi.unstubAllEnvs()
  await hub.close()
  await rm(root, { recursive: true, force: true })
})

const resolve = (name = 'org/tiny', more: object = {}) => resolveModel(name, { env, patience: 1, ...more })
const repo = () => join(root, 'cache', 'models--org--tiny')
const weights = 'model.safetensors'

describe('two that fetch the same', () => {
  const blobOf = async (name: string) =>
    createHash('sha256')
      .update(await readFile(join(root, 'model', name)))
      .digest('hex')

  /** What a process that fetches a file has in the cache meanwhile. */
  async function lockBlob(blob: string, pid: number): Promise<string> {
    const folder = join(root, 'cache', '.locks', 'models--org--tiny', `${blob}.gptvq`)
    await mkdir(folder, { recursive: true })
    await writeFile(join(folder, 'lock-1.json'), JSON.stringify({ pid, host: hostname(), id: 'other' }))
    return folder
  }

  it('calls of one process: each has the model, and each file is fetched once', async () => {
    const snapshots = await Promise.all([1, 2, 3].map(() => resolve('org/tiny', { patience: 100 })))
    expect(new Set(snapshots).size).toBe(1)
    expect(hub.log.filter((line) => line.startsWith('/store/model'))).toHaveLength(1)
    expect((await readdir(snapshots[0])).filter((name) => name.includes('.link'))).toEqual([])
    const original = await readFile(join(root, 'model', weights))
    expect((await readFile(join(snapshots[0], weights))).equals(original)).toBe(true)
  })

  it('another process: what it has fetched is not fetched again', async () => {
    const blob = await blobOf(weights)
    await lockBlob(blob, process.ppid)
    const onProgress = ({ step }: { step: string }) => {
      if (!step.endsWith(weights)) return
      copyFileSync(join(root, 'model', weights), join(repo(), 'blobs', blob))
    }
    await expect(resolve('org/tiny', { patience: 100, onProgress })).resolves.toContain(commit)
    expect(hub.log.filter((line) => line.startsWith('/store/model'))).toEqual([])
  })

  it('a process that was killed while it fetched holds nothing, and leaves no lock', async () => {
    const { pid } = spawnSync(process.execPath, ['--version'])
    const folder = await lockBlob(await blobOf(weights), pid)
    await expect(resolve()).resolves.toContain(commit)
    await expect(readdir(folder)).rejects.toThrow(/ENOENT/)
  })

  it('a process of another machine, which no lock keeps out, that has the file in its place first', async () => {
    const blob = join(repo(), 'blobs', await blobOf(weights))
    const beQuicker = () => {
      copyFileSync(join(root, 'model', weights), blob)
      rmSync(`${blob}.incomplete`)
    }
    hub.trouble = (path, count) => {
      if (path !== `/store/${weights}`) return undefined
      if (count === 1) return { cutAfter: 5000 }
      beQuicker()
      return undefined
    }
    const snapshot = await resolve()
    expect(hub.log.filter((line) => line.startsWith('/store/model'))).toHaveLength(2)
    const original = await readFile(join(root, 'model', weights))
    expect((await readFile(join(snapshot, weights))).equals(original)).toBe(true)
  })

  it('what another machine puts in its place while it comes in is not fetched again', async () => {
    const blob = join(repo(), 'blobs', await blobOf(weights))
    let isQuicker = false
    const onProgress = ({ step, done }: { step: string; done: number }) => {
      if (isQuicker || !step.endsWith(weights) || done < 1) return
      isQuicker = true
      renameSync(`${blob}.incomplete`, blob)
    }
    await expect(resolve('org/tiny', { onProgress })).resolves.toContain(commit)
    expect(isQuicker).toBe(true)
    expect(hub.log.filter((line) => line.startsWith('/store/model'))).toHaveLength(1)
  })

  it('a process that holds a file and brings nothing is waited for no longer than long', async () => {
    const blob = join(root, 'blob')
    const folder = await lockBlob('blob', process.ppid)
    const files = { folder, blob, partial: `${blob}.incomplete`, bytes: 1 }
    const lock = { ...files, onBytes: () => {}, signal: undefined, longestSilence: 0 }
    const error: Error = await aloneWithBlob(lock, async () => {}).catch((one) => one)
    expect(error.message).toContain('another fetch holds it and brings nothing')
    expect(error.message).toContain(`remove the folder ${folder}`)
  })

  it('impatience with failures is none with another that fetches', async () => {
    const blob = await blobOf(weights)
    await lockBlob(blob, process.ppid)
    let looks = 0
    const onProgress = ({ step }: { step: string }) => {
      if (!step.endsWith(weights) || looks++ < 3) return
      copyFileSync(join(root, 'model', weights), join(repo(), 'blobs', blob))
    }
    await expect(resolve('org/tiny', { patience: 0, onProgress })).resolves.toContain(commit)
  })
})
