/** Runs one suite in a process of its own and sends its tables to the parent: `suite.ts NAME OPTIONS-AS-JSON`. */
import { environment } from './common/environment.js'
import type { Table } from './common/report.js'
import { type SuiteOptions, suites } from './common/suites.js'

const [name, options] = process.argv.slice(2)
const started = environment()
const { run } = await suites[name].load()
const tables: Table[] = await run(JSON.parse(options) as SuiteOptions)
process.send!({ environment: started, tables }, () => process.disconnect())
