/**
 * Keeps every other process, and every other layer of this one, out of a directory.
 *
 * On Linux two locks of the kernel together, both gone with the process that holds them, however it dies, and neither
 * a file:
 *
 * - the process listens on an abstract unix socket named by the directory's device and inode. Whoever connects is
 *   told the holder's pid, which makes the refusal say something useful;
 * - an flock on the directory itself, which also holds between containers that share the directory but not a network,
 *   where abstract names are not shared. Node has no flock; `flock(1)` takes it on our descriptor, and it stays with
 *   our descriptor. Where the program is missing (distroless images), the socket alone keeps the directory.
 *
 * Elsewhere, libuv's UV_FS_O_EXLOCK opens the file `lock` in the directory exclusively; that too ends with the
 * process.
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import { spawn } from "node:child_process"
import * as Fs from "node:fs"
import * as Net from "node:net"
import * as Path from "node:path"
import * as Process from "node:process"
import { StorageError } from "../../services/Storage.ts"
import * as File from "./File.ts"

const locked = (directory: string, holder: string): StorageError =>
  new StorageError({
    reason: "Locked",
    path: directory,
    message:
      `${directory} is in use by ${holder}. Two servers must never share a directory: stop that one, or give this `
      + `server a directory of its own`
  })

/**
 * Who holds the socket: it answers a connection with its pid. Asked only to explain a refusal, hence the limit in
 * time.
 */
const holderOf = (address: string): Effect.Effect<string> =>
  Effect.callback<string>((resume) => {
    let pid = ""
    const socket = Net.connect({ path: address })
    socket.setEncoding("latin1")
    socket.on("data", (text: string) => {
      pid = (pid + text).slice(0, 20)
    })
    socket.on("error", () => resume(Effect.succeed("a process that does not say which")))
    socket.on("end", () =>
      resume(Effect.succeed(pid === String(Process.pid) ? `this very process (${pid})` : `process ${pid}`)))
    return Effect.sync(() =>
      socket.destroy()
    )
  }).pipe(
    Effect.timeoutOption("1 second"),
    Effect.map(Option.getOrElse(() => "a process that does not answer"))
  )

/** The socket, or none when someone has it. */
const listen = (directory: string, address: string): Effect.Effect<Option.Option<Net.Server>, StorageError> =>
  Effect.callback((resume) => {
    const server = Net.createServer((socket) => {
      socket.on("error", () => socket.destroy())
      socket.end(String(Process.pid), () => socket.destroy())
    })
    server.once("error", (error: NodeJS.ErrnoException) =>
      resume(
        error.code === "EADDRINUSE"
          ? Effect.succeedNone
          : Effect.fail(File.failure("lock", directory, error))
      ))
    // exclusive: a worker of node:cluster would otherwise listen on its parent's socket, together with its siblings.
    server.listen({ path: address, exclusive: true }, () => {
      server.unref()
      resume(Effect.succeedSome(server))
    })
  })

const stopListening = (server: Option.Option<Net.Server>): Effect.Effect<void> =>
  Option.isNone(server)
    ? Effect.void
    : Effect.callback((resume) => {
      server.value.close(() => resume(Effect.void))
    })

const flock = (directory: string, fd: number): Effect.Effect<void, StorageError> =>
  Effect.callback((resume) => {
    const child = spawn("flock", ["-n", "3"], { stdio: ["ignore", "ignore", "ignore", fd] })
    child.once("error", () => resume(Effect.logDebug("no flock(1) here: the directory is locked by a socket only")))
    child.once("exit", (code) => {
      if (code === 0) resume(Effect.void)
      else if (code !== 1) {
        resume(Effect.logWarning(`flock(1) ended with ${code}: ${directory} is locked by a socket only`))
      } else {resume(
          Effect.fail(locked(directory, "a process in another container, or one that holds an flock on it"))
        )}
    })
  })

const lockLinux = Effect.fnUntraced(function*(directory: string) {
  const fd = yield* Effect.acquireRelease(File.open(directory, "r"), File.close)
  const { dev, ino } = yield* Effect.sync(() => Fs.fstatSync(fd))
  const address = `\0titan-storage/${dev}:${ino}`
  const server = yield* Effect.acquireRelease(listen(directory, address), stopListening)
  if (Option.isNone(server)) return yield* locked(directory, yield* holderOf(address))
  yield* Effect.uninterruptible(flock(directory, fd))
})

const lockElsewhere = (directory: string) => {
  const exclusively = Process.platform === "win32" ? 0x10000000 : 0x20
  const { O_CREAT, O_NONBLOCK = 0, O_RDWR } = Fs.constants
  const path = Path.join(directory, "lock")
  const open = Effect.callback<number, StorageError>((resume) => {
    Fs.open(path, O_RDWR | O_CREAT | O_NONBLOCK | exclusively, 0o640, (error, fd) => {
      if (error === null) return resume(Effect.succeed(fd))
      const isHeld = error.code === "EAGAIN" || error.code === "EBUSY"
      resume(Effect.fail(isHeld ? locked(directory, "another process") : File.failure("lock", path, error)))
    })
  })
  return Effect.acquireRelease(open, File.close)
}

/** Holds the existing `directory` until the scope closes. Fails with reason "Locked" while another holds it. */
export const lock = (directory: string): Effect.Effect<void, StorageError, Scope.Scope> =>
  Process.platform === "linux" ? lockLinux(directory) : Effect.asVoid(lockElsewhere(directory))
