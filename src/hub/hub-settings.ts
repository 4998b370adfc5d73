import { homedir } from 'node:os'
import { join } from 'node:path'

/** How the hub is reached and where its files are kept, from the environment variables that its own tools read. */
export interface HubSettings {
  /** `HF_ENDPOINT`, default `https://huggingface.co`; without a slash at the end. */
  readonly endpoint: string
  /** `HF_TOKEN`; undefined: none is sent. */
  readonly token: string | undefined
  /** `HF_HUB_CACHE`, else `hub` in `HF_HOME`, which is `~/.cache/huggingface` by default. */
  readonly cache: string
  /** `HF_HUB_OFFLINE`: nothing is asked of the network. */
  readonly offline: boolean
}

/** Reads the settings. Empty variables count as not set. */
export function hubSettings(env: Readonly<Record<string, string | undefined>>): HubSettings {
  const home = env.HF_HOME || join(env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'huggingface')
  return {
    endpoint: (env.HF_ENDPOINT || 'https://huggingface.co').replace(/\/+$/, ''),
    token: env.HF_TOKEN || undefined,
    cache: env.HF_HUB_CACHE || join(home, 'hub'),
    offline: ['1', 'on', 'yes', 'true'].includes((env.HF_HUB_OFFLINE ?? '').toLowerCase()),
  }
}

/** A model on the hub. */
export interface HubName {
  /** `org/name`. */
  readonly repo: string
  /** A branch, tag or commit; default `main`. */
  readonly revision: string
}

/** Reads `org/name` or `org/name@revision`; undefined for anything else, e.g. a path with another number of parts. */
export function parseHubName(model: string): HubName | undefined {
  const part = '[A-Za-z0-9_][A-Za-z0-9._-]*'
  const found = new RegExp(`^(${part}/${part})(?:@([A-Za-z0-9_][A-Za-z0-9._/-]*))?$`).exec(model)
  if (found === null || /\.gguf$/i.test(model) || model.includes('..')) return undefined
  return { repo: found[1], revision: found[2] ?? 'main' }
}

/** The folder of a model in the cache, as other tools name it. */
export function repoFolder({ cache }: HubSettings, { repo }: HubName): string {
  return join(cache, `models--${repo.replaceAll('/', '--')}`)
}
