import { randomBytes } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { hostname } from 'node:os'
import { basename, join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { CheckpointError } from '../../common/errors.js'
import { systemErrorCode } from '../file-errors.js'
import { type FileSystem, writeAt, writeNewFile } from '../file-system.js'

/** What a lock says of the process that made it. */
interface Owner {
  readonly pid: number
  readonly host: string
  readonly id: string
}

const LOCK_FILE = /^lock-(\d+)\.json$/

/** A lock that says nothing is just being written, or was left so by a crash: looked at so often, so many ms apart. */
const LOOKS = 50
const LOOK_INTERVAL = 20

/** The locks that this process has, or is about to have, by their `id`. */
const claimed = new Set<string>()

/** Whether a file of that name is a lock of its folder. */
export function isLockFile(name: string): boolean {
  return LOCK_FILE.test(name)
}

/**
 * Takes a folder for this process. Locks are numbered: of those who find the same ones left behind, one can make the
 * next. Each then looks whether another lock is in force, so that of any two the later one at least sees the other,
 * and what was left behind is removed by who has the folder.
 *
 * @param output what the folder is held for, as errors name it
 * @returns gives the folder back
 * @throws CheckpointError when another process of this machine, or another run of this one, has it
 */
export async function lockFolder(
  system: FileSystem,
  output: string,
  folder: string,
): Promise<() => Promise<void>> {
  const owner: Owner = { pid: process.pid, host: hostname(), id: randomBytes(8).toString('hex') }
  claimed.add(owner.id)
  let file: string | undefined
  const release = async () => {
    if (file !== undefined) await system.rm(file, { force: true })
    claimed.delete(owner.id)
  }
  try {
    file = await makeLock(system, output, folder, owner)
    const others = (await locksOf(system, folder)).filter((lock) => lock !== file)
    await requireLeftBehind(system, output, others)
    for (const lock of others) await system.rm(lock, { force: true })
    return release
  } catch (error) {
    await release()
    throw error
  }
}

/** Makes the next lock. @returns its path */
async function makeLock(system: FileSystem, output: string, folder: string, owner: Owner): Promise<string> {
  const text = new TextEncoder().encode(JSON.stringify(owner))
  for (;;) {
    const locks = await locksOf(system, folder)
    await requireLeftBehind(system, output, locks)
    const file = join(folder, `lock-${1 + Math.max(0, ...locks.map(numberOf))}.json`)
    try {
      await writeNewFile(system, file, (handle) => writeAt(handle, text, 0))
      return file
    } catch (error) {
      // another was quicker
      if (systemErrorCode(error) !== 'EEXIST') throw error
    }
  }
}

async function locksOf(system: FileSystem, folder: string): Promise<string[]> {
  return (await system.readdir(folder)).filter(isLockFile).map((name) => join(folder, name))
}

function numberOf(lock: string): number {
  return Number(LOCK_FILE.exec(basename(lock))![1])
}

async function requireLeftBehind(
  system: FileSystem,
  output: string,
  locks: readonly string[],
): Promise<void> {
  for (const lock of locks) {
    const owner = await ownerOf(system, lock)
    if (owner === undefined || !(await works(owner))) continue
    throw new CheckpointError(
      `${output}: the process ${owner.pid} is writing it. Wait for it or choose another output; when that is no ` +
        `process of gptvq, remove ${lock}`,
    )
  }
}

async function ownerOf(system: FileSystem, lock: string): Promise<Owner | undefined> {
  for (let look = 0; look < LOOKS; look++) {
    if (look > 0) await delay(LOOK_INTERVAL)
    try {
      const handle = await system.open(lock, 'r')
      return JSON.parse(await handle.readFile('utf8').finally(() => handle.close()))
    } catch (error) {
      if (systemErrorCode(error) === 'ENOENT') return undefined
      if (!(error instanceof SyntaxError)) throw error
    }
  }
  return undefined
}

/** What runs on another machine cannot be told from what has ended. */
async function works({ pid, host, id }: Owner): Promise<boolean> {
  if (host !== hostname() || !Number.isSafeInteger(pid)) return false
  return pid === process.pid ? claimed.has(id) : isRunning(pid)
}

async function isRunning(pid: number): Promise<boolean> {
  try {
    process.kill(pid, 0)
  } catch (error) {
    if (systemErrorCode(error) !== 'EPERM') return false
  }
  return !(await isZombie(pid))
}

/** Whether a process has ended, and only waits for its parent to ask how: Linux tells, other systems do not. */
async function isZombie(pid: number): Promise<boolean> {
  try {
    const stat = await readFile(`/proc/${pid}/stat`, 'utf8')
    // the state follows on the name, which stands in brackets and may hold some itself
    return stat.startsWith(') Z', stat.lastIndexOf(')'))
  } catch {
    return false
  }
}
