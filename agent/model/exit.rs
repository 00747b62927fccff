//! The meaning of a container's exit code, for messages.

use std::fmt;

/// Exit code of podman-run(1), `docker run` or conmon: the container's own, or the engine's if there was
/// none. Displayed as `3`, or with its meaning: `137 (SIGKILL; out of memory?)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExitCode(pub i32);

impl ExitCode {
    /// The failure is the engine's, not the app's.
    pub const ENGINE: Self = Self(125);

    /// Whether the engine's log says that it could not set a limit (memory, processors, open files) on this
    /// host: podman reports this as "command not found", because a file of the kernel's did not exist.
    pub fn is_limit(self, engine: &[String]) -> bool {
        const WORDS: [&str; 5] = ["cgroup", "memory.", "cpu.max", "pids.max", "rlimit"];
        let says = |line: &String| {
            let line = line.to_ascii_lowercase();
            !line.contains("executable file") && WORDS.iter().any(|word| line.contains(word))
        };
        matches!(self.0, 125..=127) && engine.iter().any(says)
    }

    fn meaning(self) -> Option<&'static str> {
        // 128 plus a number of signal(7), which is the same on all supported machines.
        Some(match self.0 {
            125 => "the engine could not start it",
            126 => "a command could not be executed, or the container not be set up",
            127 => "a command was not found, or the container could not be set up",
            129 => "SIGHUP",
            130 => "SIGINT",
            131 => "SIGQUIT",
            132 => "SIGILL",
            133 => "SIGTRAP",
            134 => "SIGABRT",
            135 => "SIGBUS",
            136 => "SIGFPE",
            // A manual kill needs no explanation.
            137 => "SIGKILL; out of memory?",
            138 => "SIGUSR1",
            139 => "SIGSEGV",
            140 => "SIGUSR2",
            141 => "SIGPIPE",
            142 => "SIGALRM",
            143 => "SIGTERM",
            152 => "SIGXCPU",
            153 => "SIGXFSZ",
            159 => "SIGSYS",
            _ => return None,
        })
    }
}

impl fmt::Display for ExitCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.meaning() {
            Some(meaning) => write!(f, "{} ({meaning})", self.0),
            None => write!(f, "{}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_and_engine_codes_are_named() {
        let told = |code| ExitCode(code).to_string();
        assert_eq!([0, 3, 128, 255].map(told), ["0", "3", "128", "255"]);
        assert_eq!(told(137), "137 (SIGKILL; out of memory?)");
        assert_eq!([134, 139, 143].map(told), ["134 (SIGABRT)", "139 (SIGSEGV)", "143 (SIGTERM)"]);
        assert_eq!(told(125), "125 (the engine could not start it)");
        assert_eq!(told(126), "126 (a command could not be executed, or the container not be set up)");
        assert_eq!(told(127), "127 (a command was not found, or the container could not be set up)");
    }
}
