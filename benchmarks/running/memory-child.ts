/**
 * Opens a model, writes with it, and tells what memory the process took at most: run by the suite `memory`, in a process of
 * its own. Arguments: folder, tokens of the prompt, tokens to write, precision of the cache.
 */
import { readFileSync } from 'node:fs'
import { openGenerator } from '../../src/generate/open-generator.js'
import type { CachePrecision } from '../../src/model/ops/ops.js'

/** What memory the process took, in bytes. */
export interface PeakMemory {
  /** Before the model was opened. */
  readonly before: number
  /** Once it was loaded. */
  readonly loaded: number
  /** At the end. */
  readonly peak: number
  readonly cacheBytes: number
}

const [folder, promptTokens, count, cache] = process.argv.slice(2)
const before = peakBytes()
const generator = await openGenerator({ model: folder, cache: cache as CachePrecision })
const loaded = peakBytes()
const prompt = Array.from({ length: Number(promptTokens) }, (_, i) => 1 + ((i * 37) % 4000))
let written = 0
for await (const _ of generator.generate({ prompt, maxTokens: Number(count), temperature: 0 })) written++
const { cacheBytes } = generator.load()
// the system counts it roughly: what it says later may be less
const peak = Math.max(loaded, peakBytes())
await generator.close()
if (written === 0) throw new Error('nothing was written')
process.send!({ before, loaded, peak, cacheBytes } satisfies PeakMemory)

/** The most memory that this process had so far. */
function peakBytes(): number {
  try {
    // unlike that of resourceUsage it does not begin with what the parent had
    const [, kilobytes] = readFileSync('/proc/self/status', 'utf8').match(/^VmHWM:\s+(\d+) kB$/m)!
    return 1024 * Number(kilobytes)
  } catch {
    return 1024 * process.resourceUsage().maxRSS
  }
}
