//! The binary: a one-threaded runtime around one verb.

use std::process::ExitCode;

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime {
        Ok(runtime) => {
            let code = runtime.block_on(astra_agent::cli::run());
            // Does not wait for blocked threads, such as a DNS lookup or an unresponsive disk.
            runtime.shutdown_background();
            ExitCode::from(code)
        }
        Err(error) => {
            astra_agent::cli::out::error(&format!("starting the runtime: {error}"));
            astra_agent::cli::out::finish(std::time::Duration::MAX);
            ExitCode::FAILURE
        }
    }
}
