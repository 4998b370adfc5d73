import type { Table } from '../common/report.js'
import type { SuiteOptions } from '../common/suites.js'
import { clusteringTables } from './clustering.js'
import { forwardTables } from './forward.js'
import { plainLoopTables } from './plain-loops.js'
import { productTables } from './products.js'
import { searchTables } from './search.js'
import { trellisTables } from './trellis.js'

/** Each kernel against plain loops and against what one would otherwise take from the npm registry. */
export async function run(options: SuiteOptions): Promise<Table[]> {
  return [
    ...(await productTables(options)),
    ...(await clusteringTables(options)),
    ...(await searchTables(options)),
    ...(await trellisTables(options)),
    ...(await forwardTables(options)),
    ...(await plainLoopTables(options)),
  ]
}
