//! A host of fakes in a directory of its own, and the agent on it:
//! `World::installed("v1").deploy("v2").succeeds()`.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use astra_agent::config::{self, Config};
use astra_agent::converge::{SYSTEM_ACTOR, Selector, VerbRequest};
use astra_agent::model::entry::Verb;
use astra_agent::model::image::DigestArg;
use astra_agent::plan::migrations::MigratePolicy;
use astra_agent::plan::release::Only;
use tokio::runtime::Runtime;
use tokio::sync::Notify;

mod checks;

use crate::imds::aws::Vault;
use crate::ran::Ran;
use crate::state::{App, Caddy, Fault, How, Image, Migration, Shared, State, digest};
use crate::verb::{self, Stop};
use crate::{bus, engine, http, registry, systemd, units};

/// Directories that a host has before the agent comes.
const DIRS: [&str; 6] = [
    "etc/astra",
    "etc/systemd/system",
    "run/astra",
    "run/podman",
    "run/systemd/journal",
    "var/lib/containers/storage",
];

/// Ports of one host: base, instances, spare, Caddy's health routes, the registry.
const PORTS: u16 = 8;
const FIRST_PORT: u16 = 20_000;
const LAST_PORT: u16 = 32_000;

/// A tick of a host's clock, which runs only while all tasks wait.
const TICK: Duration = Duration::from_millis(10);

pub struct World {
    pub shared: Shared,
    pub root: PathBuf,
    runtime: Runtime,
    pub config: String,
    /// The next verb stops there.
    stop: Option<Stop>,
    force: bool,
    only: Only,
    /// `--migrate` or `--no-migrate` of the next verb.
    pub migrate: MigratePolicy,
    actor: &'static str,
    repository: String,
    journald: UnixDatagram,
    _servers: (http::UnixServer, http::Server),
    _claimed: Vec<TcpListener>,
}

impl World {
    pub fn new() -> Self {
        let (root, claimed, first) = (directory(), claim(), 0);
        let base = claimed[first].local_addr().unwrap().port();
        let (health_port, registry_port) = (base + PORTS - 2, base + PORTS - 1);
        let shared = Shared::new(State {
            root: root.clone(),
            health_port,
            units: BTreeMap::new(),
            enabled: Default::default(),
            enabled_at_reload: Default::default(),
            loaded: BTreeMap::new(),
            connections: Vec::new(),
            subscribed: Vec::new(),
            last_job: 0,
            last_invocation: 0,
            apps: BTreeMap::new(),
            containers: BTreeMap::new(),
            local: Default::default(),
            networks: Default::default(),
            images: BTreeMap::new(),
            tags: BTreeMap::new(),
            facts: BTreeMap::new(),
            imds: format!("http://127.0.0.1:{registry_port}"),
            vault: Vault::default(),
            caddy: Caddy::default(),
            said: BTreeMap::new(),
            calls: Vec::new(),
            faults: Vec::new(),
            awaited: None,
        });
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        let journald = UnixDatagram::bind(root.join("run/systemd/journal/socket")).unwrap();
        journald.set_nonblocking(true).unwrap();
        let servers = runtime.block_on(async {
            tokio::spawn(clock());
            bus::serve(shared.clone());
            let at = SocketAddr::from((Ipv4Addr::LOCALHOST, registry_port));
            (engine::serve(&shared), registry::serve(&shared, at).await)
        });
        let registry = format!("127.0.0.1:{registry_port}");
        let config = format!(
            "[app]\nimage = \"{registry}/shop:latest\"\nbase_port = {base}\n[app.readiness]\npath = \"/readyz\"\n\
             timeout = \"20s\"\n[migrate]\ncommand = [\"migrate\"]\ntimeout = \"60s\"\n[deploy]\nsoak = \"1s\"\n\
             min_free = \"1M\"\n[caddy]\nimage = \"{registry}/caddy:2\"\ntls = \"off\"\n"
        );
        let world = Self {
            shared,
            root,
            runtime,
            config,
            stop: None,
            force: false,
            only: Only::default(),
            migrate: MigratePolicy::default(),
            actor: "ada",
            repository: format!("{registry}/shop"),
            journald,
            _servers: servers,
            _claimed: claimed,
        };
        world.image("caddy", App::Ready, Migration::Passes);
        world.tag("caddy:2", "caddy");
        world
    }

    /// A host on which the image `name` serves.
    pub fn installed(name: &str) -> Self {
        Self::new().install(name)
    }

    pub fn install(mut self, name: &str) -> Self {
        self.publish(name);
        self.run(Verb::Install, Selector::Tracked).succeeds();
        self
    }

    /// Changes a line of agent.toml.
    pub fn config(mut self, old: &str, new: &str) -> Self {
        self.change_config(old, new);
        self
    }

    pub fn change_config(&mut self, old: &str, new: &str) {
        assert!(self.config.contains(old), "{}", self.config);
        self.config = self.config.replace(old, new);
    }

    pub fn image(&self, name: &str, app: App, migration: Migration) {
        self.shared.lock().images.insert(digest(name), Image { app, migration });
    }

    pub fn tag(&self, tag: &str, name: &str) {
        self.shared.lock().tags.insert(tag.to_owned(), digest(name));
    }

    /// Moves the tracked tag to the image `name`; a new image is good.
    pub fn publish(&self, name: &str) {
        if !self.shared.lock().images.contains_key(&digest(name)) {
            self.image(name, App::Ready, Migration::Passes);
        }
        self.tag("shop:latest", name);
    }

    /// The calls that begin with `call` fail, from now on.
    pub fn fault(&self, call: &str, how: How) {
        self.faults(call, how, 0, u32::MAX);
    }

    /// `times` calls fail, after `after` that pass.
    pub fn faults(&self, call: &str, how: How, after: u32, times: u32) {
        self.shared.lock().faults.push(Fault { call: call.to_owned(), how, after, times });
    }

    pub fn heal(&self) {
        self.shared.lock().faults.clear();
    }

    /// The next verb is killed at this call; the call itself takes effect.
    pub fn kill_at(&mut self, call: &str) -> &mut Self {
        self.stop = Some(Stop::Kill(call.to_owned()));
        self
    }

    /// The next verb is killed before its step number `step`, undo included.
    pub fn kill_before(&mut self, step: usize) -> &mut Self {
        self.stop = Some(Stop::KillBefore(step));
        self
    }

    /// The next verb gets SIGINT at this call.
    pub fn interrupt_at(&mut self, call: &str) -> &mut Self {
        self.stop = Some(Stop::Signal(call.to_owned()));
        self
    }

    /// The next verb is the timer's.
    pub fn timer(&mut self) -> &mut Self {
        self.actor = SYSTEM_ACTOR;
        self
    }

    /// The next verb is called with `--force`.
    pub fn force(&mut self) -> &mut Self {
        self.force = true;
        self
    }

    /// The next verb names this service.
    pub fn only(&mut self, service: &str) -> &mut Self {
        self.only.0.insert(service.parse().unwrap());
        self
    }

    /// Publishes the image, and deploys it.
    pub fn deploy(&mut self, name: &str) -> Ran<'_> {
        self.publish(name);
        self.run(Verb::Deploy, Selector::Tracked)
    }

    pub fn deploy_sha(&mut self, name: &str) -> Ran<'_> {
        let digest = digest(name).parse().unwrap();
        self.run(Verb::DeploySha, Selector::digest(DigestArg { repository: None, digest }))
    }

    pub fn reconcile(&mut self) -> Ran<'_> {
        self.run(Verb::Reconcile, Selector::Keep)
    }

    pub fn recover(&mut self) -> Ran<'_> {
        self.run(Verb::Recover, Selector::Keep)
    }

    /// One verb, from the lock to the journal, as in a process of its own.
    pub fn run(&mut self, verb: Verb, selector: Selector) -> Ran<'_> {
        let ask = VerbRequest {
            verb,
            selector,
            only: std::mem::take(&mut self.only),
            migrate: std::mem::take(&mut self.migrate),
            force: std::mem::take(&mut self.force),
            soak: true,
            actor: std::mem::replace(&mut self.actor, "ada").to_owned(),
        };
        let etc = self.root.join("etc/astra/agent.toml");
        std::fs::write(&etc, &self.config).unwrap();
        std::fs::set_permissions(&etc, PermissionsExt::from_mode(0o600)).unwrap();
        let config = self.parsed();
        let stop = self.stop.take();
        self.shared.lock().calls.clear();
        let (ended, told) = self.runtime.block_on(verb::run(&self.shared, &config, &ask, stop));
        assert!(self.shared.lock().awaited.is_none(), "{:#?}", self.shared.lock().calls);
        let calls = self.shared.lock().calls.clone();
        let entries = self.entries();
        Ran { world: self, ended, calls, entries, told }
    }

    fn entries(&self) -> Vec<BTreeMap<String, String>> {
        let mut bytes = [0; 10_000];
        let datagrams = std::iter::from_fn(|| {
            let length = self.journald.recv(&mut bytes).ok()?;
            Some(units::lines(&String::from_utf8_lossy(&bytes[..length])))
        });
        datagrams.collect()
    }

    /// `systemctl VERB UNIT` of an administrator, at this call of the next verb.
    pub fn systemctl_at(&mut self, call: &str, verb: &'static str, unit: &'static str) {
        let shared = self.shared.clone();
        self.at(call, async move {
            tokio::time::sleep(Duration::from_millis(100)).await;
            systemd::begin(&shared, verb, unit);
        });
    }

    /// The bus restarts at this call of the next verb: every connection breaks.
    pub fn restart_bus_at(&mut self, call: &str) {
        let shared = self.shared.clone();
        self.at(call, async move { bus::restart(&shared).await });
    }

    /// Caddy is starting at this call of the next verb: its admin socket answers, its sites do not yet.
    pub fn restart_caddy_at(&mut self, call: &str) {
        let shared = self.shared.clone();
        self.at(call, async move { shared.lock().caddy.cuts = 3 });
    }

    /// At this call of the next verb, `begins` runs beside it.
    fn at(&self, call: &str, begins: impl Future<Output = ()> + Send + 'static) {
        let reached = Arc::new(Notify::new());
        self.shared.lock().awaited = Some((call.to_owned(), Arc::clone(&reached)));
        self.runtime.spawn(async move {
            reached.notified().await;
            begins.await;
        });
    }

    /// `systemctl VERB UNIT` of an administrator, who does not wait for the job.
    pub fn systemctl(&mut self, verb: &str, unit: &str) -> &mut Self {
        let shared = self.shared.clone();
        self.runtime.block_on(async move {
            systemd::begin(&shared, verb, unit);
            tokio::time::sleep(TICK).await;
        });
        self
    }

    /// The unit's states, as its process or systemd set them.
    pub fn set_unit(&self, unit: &str, state: (&'static str, &'static str)) {
        let mut shared = self.shared.lock();
        let unit = shared.unit(unit);
        (unit.active, unit.sub) = state;
    }

    /// agent.toml as the last verb read it.
    pub fn parsed(&self) -> Config {
        config::load(&self.root).unwrap_or_else(|error| panic!("{error}"))
    }

    pub fn text(&self, path: &str) -> String {
        self.shared.lock().text(path)
    }

    pub fn write(&self, path: &str, text: &str) {
        std::fs::write(self.root.join(path.trim_start_matches('/')), text).unwrap();
    }

    /// Host and port of the registry.
    pub fn registry(&self) -> &str {
        self.repository.split('/').next().unwrap()
    }

    pub fn base_port(&self) -> u16 {
        self.shared.lock().health_port + 2 - PORTS
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.root);
    }
}

/// Without this, an idle host's clock jumps to the next timer, and the kernel may still have a packet of the
/// loopback under way, which that timer would overtake. The kernel's own thread may need the processor for it.
async fn clock() {
    for tick in 0_u32.. {
        tokio::time::sleep(TICK).await;
        if tick % 10 == 0 {
            std::thread::yield_now();
        }
        // A thread of the agent's own, which reads a pipe, has no part in this clock: on a busy machine a limit of
        // seconds would pass before it gets the processor.
        if tick % 50 == 0 {
            std::thread::sleep(Duration::from_micros(500));
        }
    }
}

/// A directory in memory if there is one: the agent flushes every file that it writes.
fn directory() -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let memory = Path::new("/dev/shm");
    let base = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    let name = format!("astra-world-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    let root = base.join(name);
    let _ = std::fs::remove_dir_all(&root);
    for dir in DIRS {
        std::fs::DirBuilder::new().recursive(true).mode(0o755).create(root.join(dir)).unwrap();
    }
    root
}

/// Ports that no other host of a test uses, in this process or another: it listens on each of them, at an
/// address of its own.
fn claim() -> Vec<TcpListener> {
    let ip = Ipv4Addr::new(127, 9, 9, 9);
    let block = |base: u16| (base..base + PORTS).map(|port| TcpListener::bind((ip, port)));
    let mut bases = (FIRST_PORT..LAST_PORT).step_by(PORTS.into());
    bases.find_map(|base| block(base).collect::<Result<_, _>>().ok()).expect("no port is free")
}
