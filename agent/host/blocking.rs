//! Blocking calls in threads of their own. tokio's pool panics where the kernel allows no further thread, e.g.
//! under a limit on processes; here that is an error. Called by store.rs and logs.rs.

use tokio::sync::oneshot::{self, Receiver};

/// Begins `work` in a new thread; its result comes through the channel.
///
/// # Errors
///
/// The kernel allows no further thread (clone(2), `EAGAIN`).
pub(super) fn spawn<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> std::io::Result<Receiver<T>> {
    let (done, ended) = oneshot::channel();
    std::thread::Builder::new().spawn(move || drop(done.send(work())))?;
    Ok(ended)
}

/// A result that is there already.
pub(super) fn ready<T>(result: T) -> Receiver<T> {
    let (done, ended) = oneshot::channel();
    let _ = done.send(result);
    ended
}
