/** The files of a dropped folder, or dropped files themselves. Folders inside the folder are left out. */
export async function filesOfDrop(transfer: DataTransfer): Promise<File[]> {
  const entries = Array.from(transfer.items, (item) => item.webkitGetAsEntry())
  const plain = Array.from(transfer.files)
  const files: File[] = []
  for (const entry of entries) {
    if (entry?.isDirectory) files.push(...(await filesOfFolder(entry as FileSystemDirectoryEntry)))
  }
  return files.length > 0 ? files : plain
}

async function filesOfFolder(folder: FileSystemDirectoryEntry): Promise<File[]> {
  const reader = folder.createReader()
  const files: File[] = []
  for (;;) {
    // a browser hands out a hundred entries at a time
    const entries = await new Promise<FileSystemEntry[]>((resolve, reject) =>
      reader.readEntries(resolve, reject),
    )
    if (entries.length === 0) return files
    for (const entry of entries) {
      if (!entry.isFile) continue
      files.push(
        await new Promise<File>((resolve, reject) => (entry as FileSystemFileEntry).file(resolve, reject)),
      )
    }
  }
}
