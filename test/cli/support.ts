import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll } from 'vitest'
import type { Input } from '../../src/cli/parse/command.js'
import { runCli } from '../../src/cli/run-cli.js'

/** What a call of the command line left behind. */
export interface CliResult {
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
}

interface CliSetting {
  readonly env?: Record<string, string>
  readonly signal?: AbortSignal
  /** Sees every text written to stderr, e.g. to stop at a certain point. */
  readonly onStderr?: (text: string) => void
  /** The same for stdout. */
  readonly onStdout?: (text: string) => void
  readonly stdin?: Input
  /** Whether stdout is a terminal. */
  readonly terminal?: boolean
  /** How wide it is. */
  readonly columns?: number
}

/** Runs the command line in this process, its output collected; stderr is a pipe, not a terminal. */
export async function cli(args: readonly string[], setting: CliSetting = {}): Promise<CliResult> {
  let stdout = ''
  let stderr = ''
  const code = await runCli(args, {
    stdout: {
      write(text) {
        stdout += text
        setting.onStdout?.(text)
      },
      isTTY: setting.terminal ?? false,
      ...(setting.columns && { columns: setting.columns }),
    },
    ...(setting.stdin && { stdin: setting.stdin }),
    stderr: {
      write(text) {
        stderr += text
        setting.onStderr?.(text)
      },
    },
    env: setting.env ?? {},
    ...(setting.signal && { signal: setting.signal }),
  })
  return { code, stdout, stderr }
}

const repository = fileURLToPath(new URL('../../', import.meta.url))

/** Starts a script of the repository in a process of its own. */
export function startScript(script: string, args: readonly string[] = []): ChildProcess {
  return spawn(process.execPath, ['--import', 'tsx', script, ...args], {
    cwd: repository,
    stdio: ['ignore', 'pipe', 'pipe'],
  })
}

/** Starts the real command line in a process of its own. */
export function startCli(args: readonly string[]): ChildProcess {
  return startScript('src/cli/main.ts', args)
}

/** Waits for the end of a process. */
export async function resultOf(
  child: ChildProcess,
): Promise<CliResult & { readonly killedBy: NodeJS.Signals | null }> {
  let stdout = ''
  let stderr = ''
  child.stdout?.on('data', (data) => {
    stdout += data
  })
  child.stderr?.on('data', (data) => {
    stderr += data
  })
  return new Promise((resolve, reject) => {
    child.on('error', reject)
    child.on('close', (code, killedBy) => resolve({ code, killedBy, stdout, stderr }))
  })
}

const folders: string[] = []

afterAll(async () => {
  for (const folder of folders.splice(0)) await rm(folder, { recursive: true, force: true })
})

/** An empty folder that is removed after the tests of the file. */
export async function folderOfFile(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'gptvq-cli-'))
  folders.push(folder)
  return folder
}
