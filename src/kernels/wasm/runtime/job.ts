/** The job board at the start of the kernels' memory: byte addresses as in `assembly/job.ts`. */
export const WAKE = 0
export const LEFT = 64
export const DONE = 128
export const TOTAL = 192
export const KIND = 196
export const LIMIT = 200
export const STOP = 204
export const FAILED = 208
export const SCRATCH = 212
export const SCRATCH_BYTES = 216
export const PAGES = 220
export const PARAMS = 256
export const REASON = 1024
/** Bytes of text there at most. */
export const REASON_BYTES = 1024

/** What a job does with each of its tiles; the numbers of `runTile` in `assembly/index.ts`. */
export const jobKinds = {
  packRight: 0,
  multiplyTile: 1,
  multiplyFewTile: 2,
  project: 10,
  assign: 11,
  sumClusters: 12,
  moveCentroids: 13,
  measureSeed: 14,
  drawSeed: 15,
  plantTrees: 16,
  gatherColumns: 17,
  searchColumns: 18,
  quantizeColumns: 20,
  refineColumns: 21,
  sortVectors: 22,
  drawNear: 23,
  plantCodebooks: 24,
  boundPositions: 25,
  normalize: 30,
  attend: 31,
  activate: 32,
  predict: 33,
  compare: 34,
  rotate: 35,
  add: 36,
  softCap: 37,
  attendDirect: 38,
  multiplyBfloats: 39,
  packTrellis: 40,
  searchTrellis: 41,
  quantizeTrellis: 42,
  refineTrellis: 43,
  weighLogits: 45,
  shareAttention: 46,
  roundActivations: 50,
  multiplyPacked: 51,
  expandPacked: 52,
  writePairs: 53,
  multiplyTrellis: 54,
  multiplyNibbles: 55,
  layStreams: 56,
  packActivations: 57,
  multiplyIntegers: 58,
  multiplyTables: 59,
} as const
