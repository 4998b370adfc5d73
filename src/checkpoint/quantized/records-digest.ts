import { sha256 } from '@noble/hashes/sha2'
import { bytesToHex } from '@noble/hashes/utils'
import type { ModuleRecord } from './quantized-config.js'

/** The member of a weights file's `__metadata__` that ties it to the records in `config.json`. */
export const DIGEST_KEY = 'gptvq_records'

/** What was measured of a layer does not decide how it is read. */
const MEASURED: ReadonlySet<string> = new Set(['relative_error', 'drift_move'])

/**
 * SHA-256, in hexadecimal, of the records of the layers that have a tensor in one file: the JSON of an object of them by
 * module, without what was measured, its names sorted and no space between.
 */
export function recordsDigest(records: ReadonlyMap<string, ModuleRecord>): string {
  const sorted = [...records].sort(byName).map(([module, record]) => {
    const fields = Object.entries(record).filter(([field]) => !MEASURED.has(field))
    return `${JSON.stringify(module)}:${JSON.stringify(Object.fromEntries(fields.sort(byName)))}`
  })
  return bytesToHex(sha256(`{${sorted.join(',')}}`))
}

function byName([a]: readonly [string, unknown], [b]: readonly [string, unknown]): number {
  return a < b ? -1 : 1
}
