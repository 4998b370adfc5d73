/** Has so many threads multiply matrices, and prints the resident bytes of the process at their peak: `peak-of-threads.ts N`. */
import { setTimeout } from 'node:timers/promises'
import { wholeBlock } from '../../../src/kernels/contract.js'
import { kernels, setThreads } from '../../../src/kernels/kernels.js'

setThreads(Number(process.argv[2]))
const n = 1024
const [a, c] = [new Float32Array(n * n).fill(1), new Float32Array(n * n)].map((data) => wholeBlock(data, n))
const multiply = () => kernels().gemm('AB', n, n, n, 1, a, a, 0, c)
multiply()
// the first product has threads started, which come while the event loop turns
await setTimeout(1500)
multiply()
console.log(1024 * process.resourceUsage().maxRSS)
process.exit(0)
