import { commandLineFuzzer } from './command-line.js'
import { folderFuzzer } from './folders.js'
import type { Fuzzer } from './fuzzer.js'
import { ggufFuzzer } from './gguf-files.js'
import { optionFuzzer } from './options.js'
import { tokenizerFuzzer } from './tokenizers.js'

/** All kinds of wrong input. */
export const fuzzers: readonly Fuzzer[] = [
  folderFuzzer,
  ggufFuzzer,
  tokenizerFuzzer,
  optionFuzzer,
  commandLineFuzzer,
]
