import { mkdtemp, readdir, readFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { writeTinyModel } from '../support/tiny-model.js'
import { type HubServer, startHub } from './hub-server.js'

/** A hub that has one small model, and a folder with that model and a cache. */
export interface TinyHub {
  readonly root: string
  readonly hub: HubServer
  readonly env: Record<string, string>
}

/** The files of a folder by name. */
export async function filesOf(folder: string): Promise<Map<string, Uint8Array>> {
  const names = await readdir(folder)
  return new Map(
    await Promise.all(names.map(async (name) => [name, await readFile(join(folder, name))] as const)),
  )
}

export async function openTinyHub(): Promise<TinyHub> {
  const root = await mkdtemp(join(tmpdir(), 'gptvq-hub-'))
  const model = join(root, 'model')
  await writeTinyModel(model)
  const files = await filesOf(model)
  files.set('pytorch_model.bin', new Uint8Array(2000))
  files.set('README.md', new TextEncoder().encode('# tiny'))
  const hub = await startHub(files)
  return { root, hub, env: { HF_ENDPOINT: hub.url, HF_HUB_CACHE: join(root, 'cache') } }
}
