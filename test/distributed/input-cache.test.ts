import { expect, it } from 'vitest'
import type { Matrix } from '../../src/common/matrix.js'
import { toJson } from '../../src/distributed/arrays-in-json.js'
import type { Blobs } from '../../src/distributed/blobs.js'
import { inputCache } from '../../src/distributed/input-cache.js'
import { gaussianMatrix } from '../support/random-matrix.js'

/** Jobs as JSON, and blobs that count how often they are read; the first reading of one fails. */
async function sent(...inputs: { hessian: Matrix; weight: Matrix }[]) {
  const bytes = new Map<string, Uint8Array>()
  let [reads, failures] = [0, 0]
  const put = async (array: Uint8Array) => {
    const name = `blob-${bytes.size}-`
    const known = [...bytes].find(([, other]) => Buffer.compare(other, array) === 0)
    bytes.set(known?.[0] ?? name, array)
    return known?.[0] ?? name
  }
  const jobs: string[] = []
  for (const input of inputs) jobs.push(await toJson(input, put))
  const get = async (name: string) => {
    reads++
    if (failures++ === 0) throw new Error('gone')
    return bytes.get(name)!
  }
  return { jobs, blobs: { get } as Blobs, reads: () => reads }
}

it('keeps the Hessian and its factors while jobs bring it, and nothing of a failure', async () => {
  const [hessian, other] = [gaussianMatrix(20, 20, 1), gaussianMatrix(20, 20, 2)]
  const weights = [3, 4, 5].map((seed) => gaussianMatrix(10, 20, seed))
  const { jobs, blobs, reads } = await sent(
    { hessian, weight: weights[0] },
    { hessian, weight: weights[1] },
    { hessian: other, weight: weights[2] },
  )
  const cache = inputCache()
  const read = async (job: number) => (await cache.read(jobs[job], blobs)) as { hessian: Matrix }
  let made = 0
  const makeFactor = (input: { hessian: Matrix }) =>
    cache.factorsOf(input.hessian)('a factor', async () => {
      made++
      return { factor: hessian, dead: new Uint8Array(20) }
    })
  await expect(read(0)).rejects.toThrow('gone')
  const steps: [number, number][] = []
  for (const job of [0, 1, 2, 0]) {
    const input = await read(job)
    expect(input.hessian.data).toEqual((job === 2 ? other : hessian).data)
    await makeFactor(input)
    steps.push([reads(), made])
  }
  cache.clear()
  await makeFactor(await read(0))
  steps.push([reads(), made])
  const [[first]] = steps
  expect(steps).toEqual([
    [first, 1],
    // a new weight, the Hessian and its factor are there
    [first + 1, 1],
    [first + 3, 2],
    // what the job before did not bring is forgotten
    [first + 5, 3],
    [first + 7, 4],
  ])
})
