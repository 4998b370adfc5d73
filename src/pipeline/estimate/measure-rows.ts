import { setThreads, threadCount } from '../../kernels/kernels.js'

/** Rows that one thread measures. */
const ROWS_ALONE = 256
/** Rows for each of several threads, which keep all of them busy. */
const ROWS_PER_THREAD = 512

/** Seconds of work on rows that do not see each other. */
export interface RowSeconds {
  /** However many rows there are: checks and copies of what is columns x columns. */
  readonly once: number
  /** Of all rows. */
  readonly rows: number
}

/** How much of a layer is measured at most. */
export interface Extent {
  /** Unless a codebook serves more. */
  readonly rows: number
  /** Wider layers follow from how these grow. */
  readonly cols: number
}

/** Enough to tell from it what all of a layer takes. */
export function enoughOfLayer(): Extent {
  const threads = threadCount()
  return { rows: threads === 1 ? ROWS_ALONE : ROWS_PER_THREAD * threads, cols: 4096 }
}

/**
 * What all rows take on all threads, from the time of `measured` of them, less what these take once.
 *
 * @param time seconds of the work on that many rows
 * @param alike whether fewer rows take less; else nothing is told apart
 */
export async function measureRows(
  time: (rows: number) => Promise<number>,
  measured: number,
  all: number,
  alike: boolean,
): Promise<RowSeconds> {
  const seconds = await time(measured)
  const once = alike && measured < all ? await takenOnce(time, measured, seconds) : 0
  return { once, rows: ((seconds - once) * all) / measured }
}

/** Told by one thread from some rows and half of these: several have too little to do with few of them. */
async function takenOnce(
  time: (rows: number) => Promise<number>,
  measured: number,
  seconds: number,
): Promise<number> {
  const threads = threadCount()
  const rows = threads === 1 ? measured : Math.min(ROWS_ALONE, measured)
  const half = Math.floor(rows / 2)
  setThreads(1)
  try {
    const many = threads === 1 ? seconds : await time(rows)
    const perRow = (many - (await time(half))) / (rows - half)
    return Math.min(seconds, Math.max(0, many - perRow * rows))
  } finally {
    setThreads(threads)
  }
}
