import { createRequire } from 'node:module'
import { Worker } from 'node:worker_threads'
import type { QueuedJob } from './connection.js'
import { lifetime, PREFIX, type Timing } from './protocol.js'
import { repeat } from './repeat.js'

/**
 * Renews the record that a worker or a run is there by, and the locks of a worker's jobs, on a thread with a connection of
 * its own: on the thread that computes a step may take longer than they last and lets nothing else have its turn.
 */
export interface LockKeeper {
  /** Keeps the lock of a job until the function that it returns is called. */
  hold(job: QueuedJob): () => void
  close(): Promise<void>
}

/** Renewals in the time that a lock lasts. */
const RENEWALS = 4

/** Where Redis is away it is tried again; who has not heard from the thread that computes for long lets the locks go. */
const source = `
const { parentPort, workerData } = require('node:worker_threads')
const { packages, url, prefix, record, lifetime, lock, patience, pause } = workerData
const { Queue } = require(packages.bullmq)
const { Redis } = require(packages.ioredis)
const connection = new Redis(url, { maxRetriesPerRequest: null, retryStrategy: (times) => Math.min(2000, 100 * times) })
connection.on('error', () => {})
const queues = new Map()
let [jobs, heard] = [[], Date.now()]
parentPort.on('message', (message) => {
  [jobs, heard] = [message, Date.now()]
})
function queueOf(name) {
  if (!queues.has(name)) {
    const queue = new Queue(name, { connection, prefix, skipVersionCheck: true, skipMetasUpdate: true })
    queue.on('error', () => {})
    queues.set(name, queue)
  }
  return queues.get(name)
}
async function renew() {
  if (Date.now() - heard > patience) return
  await connection.expire(record, lifetime)
  for (const { queueName, id, token } of jobs) await (await queueOf(queueName).getJob(id))?.extendLock(token, lock)
}
async function next() {
  await renew().catch(() => {})
  setTimeout(next, pause)
}
next()
parentPort.postMessage('ready')`

/** @param record its key, which whoever starts this has set */
export async function startLockKeeper(url: string, record: string, timing: Timing): Promise<LockKeeper> {
  const { resolve } = createRequire(import.meta.url)
  const { lock, patience } = timing
  const workerData = {
    packages: { bullmq: resolve('bullmq'), ioredis: resolve('ioredis') },
    ...{ url, prefix: PREFIX, record, lifetime: lifetime(timing) },
    ...{ lock, patience, pause: lock / RENEWALS },
  }
  const thread = new Worker(source, { eval: true, execArgv: [], workerData })
  await new Promise((ready, failed) => thread.once('message', ready).once('error', failed))
  // without it BullMQ still renews, between steps
  thread.on('error', () => {})
  thread.unref()
  const held = new Set<object>()
  const tell = () => thread.postMessage([...held])
  const stop = repeat(timing.heartbeat, async () => tell())
  return {
    hold({ queueName, id, token }) {
      const one = { queueName, id, token }
      held.add(one)
      tell()
      return () => {
        held.delete(one)
        tell()
      }
    },
    async close() {
      stop()
      await thread.terminate()
    },
  }
}
