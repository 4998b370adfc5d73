/** Uniform numbers in [0, 1). */
export type Random = () => number

function splitmix32(state: number): number {
  let z = (state + 0x9e3779b9) | 0
  z = Math.imul(z ^ (z >>> 16), 0x21f0aaad)
  z = Math.imul(z ^ (z >>> 15), 0x735a2d97)
  return (z ^ (z >>> 15)) >>> 0
}

/**
 * Mixes a seed with any number of integers into a new seed, so that work item (i, j) has its own stream whatever
 * the order or the thread it runs in.
 */
export function deriveSeed(seed: number, ...path: number[]): number {
  let state = splitmix32(splitmix32(seed | 0) ^ Math.floor(seed / 2 ** 32))
  for (const step of path) state = splitmix32(state ^ splitmix32(step | 0))
  return state >>> 0
}

/** A seeded generator (sfc32): the same seed gives the same numbers on every machine. */
export function randomGenerator(seed: number): Random {
  let a = deriveSeed(seed, 1) | 0
  let b = deriveSeed(seed, 2) | 0
  let c = deriveSeed(seed, 3) | 0
  let counter = 1
  const next = () => {
    const t = (((a + b) | 0) + counter) | 0
    counter = (counter + 1) | 0
    a = b ^ (b >>> 9)
    b = (c + (c << 3)) | 0
    c = (c << 21) | (c >>> 11)
    c = (c + t) | 0
    return (t >>> 0) / 2 ** 32
  }
  for (let i = 0; i < 12; i++) next()
  return next
}

/** A draw from the standard normal distribution (Box-Muller). */
export function randomNormal(random: Random): number {
  const radius = Math.sqrt(-2 * Math.log(1 - random()))
  return radius * Math.cos(2 * Math.PI * random())
}
