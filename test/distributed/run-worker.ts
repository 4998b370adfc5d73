/** A worker in a process of its own, for tests: `run-worker.ts OPTIONS-AS-JSON`. Says a line when it is ready, and at each job. */
import { startWorker, type WorkerOptions } from '../../src/distributed/worker.js'

const options = JSON.parse(process.argv[2]) as WorkerOptions
await startWorker({ ...options, onJob: ({ job, state }) => console.log(`${job} ${state}`) })
console.log('ready')
