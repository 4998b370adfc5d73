import { CheckpointError } from '../common/errors.js'

const REASONS: Readonly<Record<string, string>> = {
  EACCES: 'permission denied',
  EBADF: 'the file was closed meanwhile',
  EBUSY: 'it is in use, or a mount point',
  EDQUOT: 'the disk quota is used up',
  EEXIST: 'something of that name is already there',
  EFBIG: 'the file would be larger than the file system or a limit of this process allows',
  EINVAL: 'the system refuses the operation on this path',
  EIO: 'the disk reports an input/output error',
  EISDIR: 'it is a folder, not a file',
  ELOOP: 'its links go in a circle',
  EMFILE: 'this process has too many files open',
  ENAMETOOLONG: 'the name is too long for the file system',
  ENFILE: 'the system has too many files open',
  ENOENT: 'no such file or folder',
  ENOSPC: 'no space left on the disk',
  ENOTDIR: 'a part of the path is a file, not a folder',
  ENOTEMPTY: 'the folder is not empty',
  EPERM: 'the operation is not permitted',
  EROFS: 'the file system is read-only',
  EXDEV: 'it is on another file system',
}

/** The code of an error of the operating system, e.g. `'ENOSPC'`; `undefined` for any other error. */
export function systemErrorCode(error: unknown): string | undefined {
  if (!(error instanceof Error)) return undefined
  const { code, syscall } = error as NodeJS.ErrnoException
  return typeof code === 'string' && typeof syscall === 'string' ? code : undefined
}

/** Why the operating system refused, in words with the code, e.g. `'permission denied (EACCES)'`. */
export function reasonInWords(error: unknown): string {
  const code = systemErrorCode(error)
  if (code === undefined) return error instanceof Error ? error.message : String(error)
  return code in REASONS ? `${REASONS[code]} (${code})` : (error as Error).message
}

/**
 * The error to throw in place of `error`: a CheckpointError saying what could not be done and why when the operating
 * system refused, else `error` itself.
 *
 * @param failed what could not be done, with the path, e.g. `'cannot read model.safetensors'`
 */
export function fileError(failed: string, error: unknown): unknown {
  if (systemErrorCode(error) === undefined) return error
  return new CheckpointError(`${failed}: ${reasonInWords(error)}`, { cause: error })
}
