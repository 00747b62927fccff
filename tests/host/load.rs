//! A load generator: sends a fixed rate of mixed requests to 127.0.0.1, independent of the answers, until
//! `--seconds` have passed or SIGTERM comes; waits for requests in flight, and prints a report as JSON. It
//! never uses another address. The test harness runs it inside a test host's network.

#[path = "report.rs"]
mod report;

use std::error::Error;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use clap::Parser;
use futures_util::{SinkExt, StreamExt};
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, StatusCode};
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use report::{Cut, Event, Report};
use tokio::net::TcpStream;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{WebSocketStream, client_async};

/// Sends mixed requests to 127.0.0.1 at a fixed rate and reports in JSON.
#[derive(Parser)]
struct Args {
    #[arg(long, default_value_t = 80)]
    port: u16,
    /// The Host header.
    #[arg(long, default_value = "localhost")]
    host: String,
    /// Prefix of every path.
    #[arg(long, default_value = "")]
    below: String,
    /// Requests a second.
    #[arg(long, default_value_t = 500)]
    rate: u32,
    /// When to stop, unless SIGTERM comes first.
    #[arg(long, default_value_t = 600)]
    seconds: u64,
    /// WebSockets to keep open, each with an echo every 250 ms.
    #[arg(long, default_value_t = 10)]
    websockets: usize,
    /// Only quick POSTs: an instance soon has none in flight, and a proxy must not send one twice.
    #[arg(long)]
    quick: bool,
    /// Only GET /: a front end that was built answers nothing else.
    #[arg(long)]
    gets: bool,
}

type Fallible<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// A request that takes longer has failed.
const LIMIT: Duration = Duration::from_secs(30);
/// With more requests in flight the server has stalled.
const MOST_UNDER_WAY: usize = 5000;

#[derive(Clone, Copy)]
enum Kind {
    Get,
    Post,
    SlowGet,
    SlowPost,
    Sse,
}

impl Kind {
    const ALL: [Kind; 5] = [Kind::Get, Kind::Post, Kind::SlowGet, Kind::SlowPost, Kind::Sse];

    /// In 500 requests, 2 are event streams of 5 s and 10 slow ones of 2 s; the rest is quick. The first 7 have
    /// one of each: a run may take no more than a second or two.
    fn of(number: u64, args: &Args) -> Kind {
        match number % 500 {
            _ if args.gets => Kind::Get,
            _ if args.quick => Kind::Post,
            0 | 250 => Kind::Sse,
            n if n % 100 == 3 => Kind::SlowGet,
            n if n % 100 == 6 => Kind::SlowPost,
            n if n % 3 == 0 => Kind::Post,
            _ => Kind::Get,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Kind::Get => "get",
            Kind::Post => "post",
            Kind::SlowGet => "slow_get",
            Kind::SlowPost => "slow_post",
            Kind::Sse => "sse",
        }
    }

    fn request(self) -> (Method, &'static str) {
        match self {
            Kind::Get => (Method::GET, "/"),
            Kind::Post => (Method::POST, "/echo"),
            Kind::SlowGet => (Method::GET, "/slow?s=2"),
            Kind::SlowPost => (Method::POST, "/slow?s=2"),
            Kind::Sse => (Method::GET, "/sse?s=5"),
        }
    }

    /// A cut answer with status 200 is a failure too: each kind has an expected end.
    fn is_whole(self, sent: &str, got: &str) -> bool {
        match self {
            Kind::Get => got.ends_with('\n'),
            Kind::Post => got == sent,
            Kind::SlowGet | Kind::SlowPost => got.ends_with(&format!("after {} bytes\n", sent.len())),
            Kind::Sse => got.contains("event: end"),
        }
    }
}

struct Generator {
    args: Args,
    start: Instant,
    /// Reuses connections; the other one makes a new connection for each request.
    pooled: Client<HttpConnector, Full<Bytes>>,
    fresh: Client<HttpConnector, Full<Bytes>>,
    report: Mutex<Report>,
    latencies: [Mutex<Vec<Duration>>; Kind::ALL.len()],
}

impl Generator {
    fn new(args: Args) -> Self {
        // No retries in the client, which would hide failures.
        let client = |idle| {
            Client::builder(TokioExecutor::new())
                .retry_canceled_requests(false)
                .pool_max_idle_per_host(idle)
                .build_http()
        };
        let began = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let mut report = Report { began: began.map_or(0.0, |t| t.as_secs_f64()), ..Report::default() };
        for kind in Kind::ALL {
            report.kinds.insert(kind.name().into(), report::Kind::default());
        }
        Self {
            args,
            start: Instant::now(),
            pooled: client(usize::MAX),
            fresh: client(0),
            report: Mutex::new(report),
            latencies: Default::default(),
        }
    }

    fn at(&self) -> f64 {
        round(self.start.elapsed().as_secs_f64())
    }

    fn report(&self) -> MutexGuard<'_, Report> {
        lock(&self.report)
    }

    /// Timed from when it was due: a slow generator sends late, and must not hide it.
    async fn request(self: Arc<Self>, number: u64, due: Instant) {
        let kind = Kind::of(number, &self.args);
        let late = due.elapsed();
        let result = match timeout(LIMIT, self.exchange(kind, number)).await {
            Ok(result) => result,
            Err(_) => Err(format!("no answer in {LIMIT:?}").into()),
        };
        if let Some(latencies) = self.latencies.get(kind as usize) {
            lock(latencies).push(due.elapsed());
        }
        self.count(kind, due, late, result);
    }

    fn count(&self, kind: Kind, due: Instant, late: Duration, result: Fallible<String>) {
        let at = self.at();
        let second = due.duration_since(self.start).as_secs() as usize;
        let mut report = self.report();
        let report = &mut *report;
        report.total += 1;
        report.latest_ms = report.latest_ms.max(milliseconds(late));
        if report.timeline.len() <= second {
            report.timeline.resize(second + 1, report::Second::default());
        }
        if let Some(second) = report.timeline.get_mut(second) {
            *(if result.is_ok() { &mut second.answered } else { &mut second.failed }) += 1;
        }
        let count = report.kinds.entry(kind.name().into()).or_default();
        count.total += 1;
        match result {
            Ok(body) if matches!(kind, Kind::Get) => {
                *report.versions.entry(first_word(&body)).or_default() += 1
            }
            Ok(_) => {}
            Err(error) => {
                report.failed += 1;
                count.failed += 1;
                note(&mut count.errors, at, chain(&*error));
            }
        }
    }

    async fn exchange(&self, kind: Kind, number: u64) -> Fallible<String> {
        let (method, path) = kind.request();
        let sent =
            if method == Method::POST { format!("{number} {}", "x".repeat(200)) } else { String::new() };
        let request = Request::builder()
            .method(method)
            .uri(format!("http://127.0.0.1:{}{}{path}", self.args.port, self.args.below))
            .header("host", &self.args.host)
            .body(Full::from(sent.clone()))?;
        let client = if number % 10 == 5 { &self.fresh } else { &self.pooled };
        let answer = client.request(request).await?;
        let status = answer.status();
        let got = String::from_utf8_lossy(&answer.into_body().collect().await?.to_bytes()).into_owned();
        if status != StatusCode::OK {
            let body: String = got.chars().take(100).collect();
            return Err(format!("{status}: {}", body.trim()).into());
        }
        if !kind.is_whole(&sent, &got) {
            return Err(format!("incomplete answer of {} bytes", got.len()).into());
        }
        Ok(got)
    }

    async fn websocket(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        while !*stop.borrow() {
            match timeout(LIMIT, self.open()).await {
                Ok(Ok((socket, who))) => {
                    self.report().websockets.opened += 1;
                    if let Err(error) = self.talk(socket, &mut stop).await {
                        let cut = Cut { at: self.at(), who, reason: chain(&*error) };
                        self.report().websockets.cuts.push(cut);
                    }
                }
                Ok(Err(error)) => self.not_opened(chain(&*error)),
                Err(_) => self.not_opened(format!("not open in {LIMIT:?}")),
            }
            sleep(Duration::from_millis(100)).await;
        }
    }

    fn not_opened(&self, error: String) {
        let at = self.at();
        let mut report = self.report();
        report.websockets.failed += 1;
        note(&mut report.websockets.errors, at, error);
    }

    /// An open socket, and its greeting: version and container.
    async fn open(&self) -> Fallible<(WebSocketStream<TcpStream>, String)> {
        let stream = TcpStream::connect(("127.0.0.1", self.args.port)).await?;
        let (mut socket, _) =
            client_async(format!("ws://{}{}/ws", self.args.host, self.args.below), stream).await?;
        let hello = socket.next().await.ok_or("closed before its greeting")??;
        Ok((socket, hello.to_text()?.to_owned()))
    }

    /// Echoes until stopped; an error is a cut.
    async fn talk(
        &self,
        mut socket: WebSocketStream<TcpStream>,
        stop: &mut watch::Receiver<bool>,
    ) -> Fallible<()> {
        let mut ticks = interval(Duration::from_millis(250));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for number in 0_u64.. {
            tokio::select! {
                _ = ticks.tick() => {}
                _ = stop.changed() => return Ok(socket.close(None).await?),
            }
            let sent = Message::text(number.to_string());
            socket.send(sent.clone()).await?;
            let mut got = timeout(LIMIT, socket.next()).await?.ok_or("closed")??;
            // The server sends pings; the library has answered them by then.
            while got.is_ping() {
                got = timeout(LIMIT, socket.next()).await?.ok_or("closed")??;
            }
            match got {
                got if got == sent => self.report().websockets.echoes += 1,
                got => return Err(format!("instead of an echo: {got:?}").into()),
            }
        }
        Ok(())
    }

    fn finish(&self) -> Report {
        let mut report = std::mem::take(&mut *self.report());
        for kind in Kind::ALL {
            let Some(latencies) = self.latencies.get(kind as usize) else { continue };
            let mut latencies = lock(latencies);
            latencies.sort_unstable();
            let quantile = |q: usize| {
                let latency =
                    latencies.get((latencies.len() * q / 100).min(latencies.len().saturating_sub(1)));
                latency.copied().map_or(0.0, milliseconds)
            };
            let count = report.kinds.entry(kind.name().into()).or_default();
            (count.p50_ms, count.p99_ms, count.max_ms) = (quantile(50), quantile(99), quantile(100));
        }
        report
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn note(errors: &mut Vec<Event>, at: f64, error: String) {
    if errors.len() < 20 {
        errors.push(Event { at, error });
    }
}

fn round(number: f64) -> f64 {
    (number * 1000.0).round() / 1000.0
}

fn milliseconds(duration: Duration) -> f64 {
    round(duration.as_secs_f64() * 1000.0)
}

fn first_word(text: &str) -> String {
    text.split_whitespace().next().unwrap_or_default().into()
}

fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[tokio::main]
async fn main() -> Fallible<()> {
    let generator = Arc::new(Generator::new(Args::parse()));
    let args = &generator.args;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let (stop, stopped) = watch::channel(false);

    let mut websockets = JoinSet::new();
    for _ in 0..args.websockets {
        websockets.spawn(Arc::clone(&generator).websocket(stopped.clone()));
    }
    let mut requests = JoinSet::new();
    let end = generator.start + Duration::from_secs(args.seconds);
    for number in 0_u64.. {
        // Relative to the start and not to the last request: a late one delays no other.
        let due = generator.start + Duration::from_secs_f64(number as f64 / f64::from(args.rate.max(1)));
        tokio::select! {
            _ = sleep_until(due) => {}
            _ = sleep_until(end) => break,
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
        }
        while requests.try_join_next().is_some() {}
        if requests.len() < MOST_UNDER_WAY {
            requests.spawn(Arc::clone(&generator).request(number, due));
        } else {
            let error = format!("{MOST_UNDER_WAY} requests are under way");
            generator.count(Kind::of(number, &generator.args), due, due.elapsed(), Err(error.into()));
        }
    }
    let seconds = generator.at();
    requests.join_all().await;
    stop.send(true)?;
    websockets.join_all().await;

    let mut report = generator.finish();
    report.asked = generator.args.rate.into();
    report.seconds = seconds;
    report.rate = round(report.total as f64 / seconds);
    println!("{}", serde_json::to_string_pretty(&report)?);
    Ok(())
}
