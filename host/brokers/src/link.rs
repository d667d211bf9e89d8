//! One connection to a broker, on a thread of its own, which is made anew for ever.
//!
//! A kind implements [`Protocol`], which connects, and [`Session`], one connection. Everything else is here: the thread, the
//! waits between two tries, what is told to those that publish while there is no connection, and consumers, which begin anew
//! with each connection.

use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{oneshot, watch};
use tokio::task::{JoinHandle, LocalSet};
use witgate_exchange::contracts::broker::{
    BrokerStatus, Consuming, Counters, MessageSink, Outgoing, PublishFailure, Publishing, Subscription,
    Window,
};

/// The waits between two tries to connect.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// The wait before a consumer that failed begins again on the same connection.
const CONSUMER_WAIT: Duration = Duration::from_secs(1);

/// Connects.
pub trait Protocol: Send + 'static {
    /// One connection.
    type Session: Session;

    /// Connects once. The link bounds the time.
    fn connect(&self) -> impl Future<Output = Result<Self::Session, String>>;
}

/// One connection. It stays on the thread of its link.
pub trait Session: 'static {
    /// Publishes a message and waits for the confirm.
    fn publish(&self, message: Outgoing, shared: &Shared)
    -> impl Future<Output = Result<(), PublishFailure>>;

    /// Fetches for a consumer until it is stopped and all its messages are settled, or until this fails.
    fn consume(&self, feed: &Feed) -> impl Future<Output = Result<(), String>>;

    /// Ends when the connection is lost, and says why.
    fn lost(&self) -> impl Future<Output = String>;

    /// Closes the connection.
    fn close(&self) -> impl Future<Output = ()>;
}

/// What a link tells everybody.
pub struct Shared {
    state: Mutex<State>,
    /// What was published and delivered.
    pub counters: Counters,
    /// The room for messages that are being published.
    pub window: Arc<Window>,
}

#[derive(Default)]
struct State {
    problem: Option<String>,
    last_error: Option<String>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a failure that does not end the connection.
    pub fn note(&self, error: String) {
        self.state().last_error = Some(error);
    }

    fn connected(&self) {
        self.state().problem = None;
    }

    fn disconnected(&self, why: String) {
        let mut state = self.state();
        state.last_error = Some(why.clone());
        state.problem = Some(why);
    }
}

/// A consumer, as a session sees it.
pub struct Feed {
    /// What it wants.
    pub subscription: Subscription,
    /// Where its messages go.
    pub sink: Arc<dyn MessageSink>,
    /// What the link tells everybody.
    pub shared: Arc<Shared>,
    stop: watch::Sender<bool>,
    problem: Mutex<Option<String>>,
}

impl Feed {
    /// Ends when the consumer is stopped.
    pub async fn stopped(&self) {
        // The sender lives as long as `self`.
        let _ = self.stop.subscribe().wait_for(|stopped| *stopped).await;
    }

    /// Notes that the consumer fetches, or why it does not.
    pub fn report(&self, problem: Option<String>) {
        *self.problem.lock().unwrap_or_else(PoisonError::into_inner) = problem;
    }
}

enum Command {
    Publish(Outgoing, oneshot::Sender<Result<(), PublishFailure>>),
    Consume(Arc<Feed>),
    Close(SyncSender<()>),
}

/// The link to a broker. Dropping it ends the thread.
pub struct Link {
    commands: UnboundedSender<Command>,
    shared: Arc<Shared>,
}

impl Link {
    /// Starts the thread.
    ///
    /// # Errors
    /// The system refuses a thread.
    pub fn start<P: Protocol>(
        name: &str,
        protocol: P,
        window: Arc<Window>,
        connect_timeout: Duration,
    ) -> std::io::Result<Link> {
        let state = State { problem: Some("it was not connected yet".to_owned()), last_error: None };
        let shared = Arc::new(Shared { state: Mutex::new(state), counters: Counters::default(), window });
        let (commands, received) = unbounded_channel();
        let keeper = Keeper {
            protocol,
            shared: Arc::clone(&shared),
            connect_timeout,
            commands: received,
            feeds: Vec::new(),
        };
        std::thread::Builder::new().name(format!("witgate-{name}")).spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            match runtime {
                Ok(runtime) => LocalSet::new().block_on(&runtime, keeper.run()),
                Err(error) => keeper.shared.disconnected(format!("no runtime: {error}")),
            }
        })?;
        Ok(Link { commands, shared })
    }

    /// Publishes a message. It is handed over at once.
    pub fn publish(&self, message: Outgoing) -> Publishing {
        self.shared.counters.published.fetch_add(1, Ordering::Relaxed);
        let (tell, told) = oneshot::channel();
        let sent = self.commands.send(Command::Publish(message, tell));
        let gone = || PublishFailure::Unreachable("the thread of the broker has ended".to_owned());
        Box::pin(async move {
            sent.map_err(|_| gone())?;
            told.await.unwrap_or_else(|_| Err(PublishFailure::Lost("the connection was given up".to_owned())))
        })
    }

    /// Begins to fetch.
    pub fn consume(&self, subscription: Subscription, sink: Arc<dyn MessageSink>) -> Box<dyn Consuming> {
        let (stop, _) = watch::channel(false);
        let shared = Arc::clone(&self.shared);
        let feed = Arc::new(Feed { subscription, sink, shared, stop, problem: Mutex::default() });
        if self.commands.send(Command::Consume(Arc::clone(&feed))).is_err() {
            feed.report(Some("the thread of the broker has ended".to_owned()));
        }
        Box::new(Fetching(feed))
    }

    /// See [`Broker::close`](witgate_exchange::contracts::broker::Broker::close).
    pub fn close(&self, within: Duration) {
        let (tell, told) = sync_channel(1);
        if self.commands.send(Command::Close(tell)).is_ok() {
            let _ = told.recv_timeout(within);
        }
    }

    /// Its condition and its counts.
    pub fn status(&self) -> BrokerStatus {
        let state = self.shared.state();
        BrokerStatus {
            problem: state.problem.clone(),
            last_error: state.last_error.clone(),
            in_flight: self.shared.window.messages(),
            in_flight_bytes: self.shared.window.bytes(),
            messages: self.shared.counters.counts(),
        }
    }

    /// The room for messages that are being published.
    pub fn window(&self) -> &Arc<Window> {
        &self.shared.window
    }
}

/// Fetches nothing, because the settings of the broker are only checked.
pub struct Nothing;

impl Consuming for Nothing {
    fn problem(&self) -> Option<String> {
        None
    }
}

/// A consumer that fetches until this is dropped.
struct Fetching(Arc<Feed>);

impl Consuming for Fetching {
    fn problem(&self) -> Option<String> {
        let problem = self.0.problem.lock().unwrap_or_else(PoisonError::into_inner).clone();
        self.0.shared.state().problem.clone().or(problem)
    }
}

impl Drop for Fetching {
    fn drop(&mut self) {
        self.0.stop.send_replace(true);
    }
}

/// What runs on the thread.
struct Keeper<P: Protocol> {
    protocol: P,
    shared: Arc<Shared>,
    connect_timeout: Duration,
    commands: UnboundedReceiver<Command>,
    feeds: Vec<Arc<Feed>>,
}

/// The link was dropped or is to be closed.
struct Ended;

impl<P: Protocol> Keeper<P> {
    async fn run(mut self) {
        let mut wait = FIRST_WAIT;
        loop {
            match self.connect().await {
                Err(Ended) => return,
                Ok(Ok(session)) => {
                    self.shared.connected();
                    wait = FIRST_WAIT;
                    match self.serve(Rc::new(session)).await {
                        Ok(why) => self.shared.disconnected(why),
                        Err(Ended) => return,
                    }
                }
                Ok(Err(why)) => self.shared.disconnected(why),
            }
            let random = wait.mul_f64(0.5 + fastrand::f64() / 2.0);
            if self.until(tokio::time::sleep(random)).await.is_err() {
                return;
            }
            wait = (wait * 2).min(LONGEST_WAIT);
        }
    }

    async fn connect(&mut self) -> Result<Result<P::Session, String>, Ended> {
        let timeout = self.connect_timeout;
        // Taken apart, because the connecting borrows the protocol and the commands are answered meanwhile.
        let Keeper { protocol, shared, commands, feeds, .. } = self;
        let connecting = tokio::time::timeout(timeout, protocol.connect());
        let connected = answer_meanwhile(commands, feeds, shared, connecting).await?;
        Ok(connected.unwrap_or_else(|_| Err(format!("no connection within {timeout:?}"))))
    }

    async fn until<F: Future>(&mut self, future: F) -> Result<F::Output, Ended> {
        answer_meanwhile(&mut self.commands, &mut self.feeds, &self.shared, future).await
    }

    /// Uses a connection until it is lost.
    async fn serve(&mut self, session: Rc<P::Session>) -> Result<String, Ended> {
        self.feeds.retain(|feed| !*feed.stop.borrow());
        let mut tasks: Vec<JoinHandle<()>> =
            self.feeds.iter().map(|feed| spawn_feed(&session, feed)).collect();
        let ended = loop {
            tokio::select! {
                why = session.lost() => break Ok(why),
                command = self.commands.recv() => match command {
                    None => {
                        session.close().await;
                        break Err(Ended);
                    }
                    Some(Command::Publish(message, tell)) => {
                        let (session, shared) = (Rc::clone(&session), Arc::clone(&self.shared));
                        tokio::task::spawn_local(async move {
                            let outcome = session.publish(message, &shared).await;
                            if let Err(failure) = &outcome {
                                shared.note(describe(failure));
                            }
                            shared.counters.end(&outcome);
                            // Whoever asked may have given up.
                            let _ = tell.send(outcome);
                        });
                    }
                    Some(Command::Consume(feed)) => {
                        tasks.retain(|task| !task.is_finished());
                        self.feeds.retain(|feed| !*feed.stop.borrow());
                        tasks.push(spawn_feed(&session, &feed));
                        self.feeds.push(feed);
                    }
                    Some(Command::Close(tell)) => {
                        // Consumers end by themselves when their last message is settled.
                        let stopped = self.feeds.iter().all(|feed| *feed.stop.borrow());
                        while stopped && let Some(task) = tasks.pop() {
                            let _ = task.await;
                        }
                        session.close().await;
                        let _ = tell.send(());
                        break Err(Ended);
                    }
                },
            }
        };
        tasks.iter().for_each(JoinHandle::abort);
        ended
    }
}

/// Tells everybody who publishes that there is no connection until the future is ready.
async fn answer_meanwhile<F: Future>(
    commands: &mut UnboundedReceiver<Command>,
    feeds: &mut Vec<Arc<Feed>>,
    shared: &Shared,
    future: F,
) -> Result<F::Output, Ended> {
    let mut future = std::pin::pin!(future);
    loop {
        tokio::select! {
            ready = &mut future => return Ok(ready),
            command = commands.recv() => match command {
                None => return Err(Ended),
                Some(Command::Publish(_, tell)) => {
                    let why = shared.state().problem.clone().unwrap_or_default();
                    let outcome = Err(PublishFailure::Unreachable(why));
                    shared.counters.end(&outcome);
                    let _ = tell.send(outcome);
                }
                Some(Command::Consume(feed)) => feeds.push(feed),
                Some(Command::Close(tell)) => {
                    let _ = tell.send(());
                    return Err(Ended);
                }
            },
        }
    }
}

fn spawn_feed<S: Session>(session: &Rc<S>, feed: &Arc<Feed>) -> JoinHandle<()> {
    let (session, feed) = (Rc::clone(session), Arc::clone(feed));
    tokio::task::spawn_local(async move {
        while !*feed.stop.borrow() {
            match session.consume(&feed).await {
                Ok(()) => return,
                Err(why) => {
                    feed.shared.note(format!("consumer `{}`: {why}", feed.subscription.consumer));
                    feed.report(Some(why));
                }
            }
            if tokio::time::timeout(CONSUMER_WAIT, feed.stopped()).await.is_ok() {
                return;
            }
        }
    })
}

fn describe(failure: &PublishFailure) -> String {
    match failure {
        PublishFailure::Unreachable(why)
        | PublishFailure::Full(why)
        | PublishFailure::Refused(why)
        | PublishFailure::Unroutable(why)
        | PublishFailure::Lost(why) => why.clone(),
    }
}
