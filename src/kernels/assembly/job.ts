/**
 * The first page of memory: one job at a time, cut into tiles that threads take in turn.
 *
 * | bytes | what |
 * | --- | --- |
 * | 0 | WAKE: counts jobs; sleeping workers wait on it |
 * | 64 | LEFT: tiles not yet taken; 0 or less when none is left |
 * | 128 | DONE: tiles finished |
 * | 192 | TOTAL: tiles of the job |
 * | 196 | KIND: what to do with a tile |
 * | 200 | LIMIT: threads that may take part, the caller included |
 * | 204 | STOP: 1 tells workers to return |
 * | 208 | FAILED: 1 when a worker died |
 * | 212 | SCRATCH: address of the first thread's scratch memory |
 * | 216 | SCRATCH_BYTES: bytes of scratch of each thread |
 * | 220 | PAGES: pages of memory when the job was posted |
 * | 256 | PARAMS: 8 bytes each |
 * | 1024 | REASON: why a worker died, a length and that many bytes of text |
 * | 16384 | PAIRS: elements of the running product with a trellis, 4 bytes for each number of up to 12 bits |
 *
 * LEFT is written last when a job is posted, so whoever gets a tile sees that job's parameters; and a job is not
 * finished, nor its parameters overwritten, before every tile taken is done.
 */
export const WAKE: usize = 0
export const LEFT: usize = 64
export const DONE: usize = 128
export const TOTAL: usize = 192
export const KIND: usize = 196
export const LIMIT: usize = 200
export const STOP: usize = 204
export const PAGES: usize = 220
const SCRATCH: usize = 212
const SCRATCH_BYTES: usize = 216
const PARAMS: usize = 256
/** A constant, so that loads need not add it. */
export const PAIRS: usize = 16384

/** Memory of the running job that only this thread uses. */
export function scratchOf(thread: i32): usize {
  return load<usize>(SCRATCH) + <usize>thread * load<usize>(SCRATCH_BYTES)
}

/** A parameter of the running job. */
// @ts-expect-error: decorator
@inline
export function param<T>(index: i32): T {
  return load<T>(PARAMS + 8 * <usize>index)
}

/** Rounds a number of bytes up to whole vectors. */
// @ts-expect-error: decorator
@inline
export function aligned(bytes: usize): usize {
  return (bytes + 15) & ~15
}
