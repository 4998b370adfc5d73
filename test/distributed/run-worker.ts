/**
 * A worker in a process of its own, for tests: `run-worker.ts OPTIONS-AS-JSON [MILLISECONDS]`. Says a line when it is ready,
 * and at each job. Its jobs begin with a step of so many milliseconds that lets nothing else have its turn.
 */
import { startWorker, type WorkerOptions } from '../../src/distributed/worker.js'

const options = JSON.parse(process.argv[2]) as WorkerOptions
const milliseconds = Number(process.argv[3] ?? 0)
const forever = new Int32Array(new SharedArrayBuffer(4))
await startWorker({
  ...options,
  onJob({ job, state }) {
    console.log(`${job} ${state}`)
    if (state === 'begun') Atomics.wait(forever, 0, 0, milliseconds)
  },
})
console.log('ready')
