/** The `__metadata__` of a file, or what gives it for a file of the tensors named. */
export type FileMetadata =
  | Readonly<Record<string, string>>
  | ((tensors: readonly string[]) => Readonly<Record<string, string>>)

/** The `__metadata__` of a file of these tensors. */
export function metadataOf(
  metadata: FileMetadata,
  tensors: readonly string[],
): Readonly<Record<string, string>> {
  return typeof metadata === 'function' ? metadata(tensors) : metadata
}
