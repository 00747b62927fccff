//! The bus: accepts any number of connections on a unix socket, answers as org.freedesktop.DBus, and hands
//! every other call to systemd.rs.

use futures_util::StreamExt;
use zbus::message::Type;
use zbus::names::BusName;
use zbus::{Connection, Message, OwnedObjectPath};

use crate::state::Shared;
use crate::systemd::{self, MANAGER, PATH, Reply};

const GUID: &str = "0123456789abcdef0123456789abcdef";
const DBUS: &str = "org.freedesktop.DBus";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";

/// Serves at the path of the root directory that [`address`] names.
pub fn serve(shared: Shared) {
    let path = shared.lock().root.join("bus");
    let listener = tokio::net::UnixListener::bind(path).unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(converse(stream.into_std().unwrap(), shared.clone()));
        }
    });
}

pub fn address(root: &std::path::Path) -> String {
    format!("unix:path={}", root.join("bus").display())
}

/// An error ends the connection, and its caller sees that.
async fn converse(stream: std::os::unix::net::UnixStream, shared: Shared) -> zbus::Result<()> {
    let builder = zbus::connection::Builder::unix_stream(stream).server(GUID).p2p();
    let mut messages = builder.build_message_stream().await?;
    let connection = Connection::from(&messages);
    shared.lock().connections.push(connection.clone());
    while let Some(message) = messages.next().await {
        let message = message?;
        if message.message_type() == Type::MethodCall {
            answer(&connection, &message, &shared).await?;
        }
    }
    Ok(())
}

async fn answer(connection: &Connection, message: &Message, shared: &Shared) -> zbus::Result<()> {
    let header = message.header();
    let text = |part: Option<&str>| part.unwrap_or_default().to_owned();
    let interface = text(header.interface().map(|name| name.as_str()));
    let member = text(header.member().map(|name| name.as_str()));
    match (interface.as_str(), member.as_str()) {
        (DBUS, "Hello") => return connection.reply(&header, &":1.7").await,
        (DBUS, "NameHasOwner") => return connection.reply(&header, &true).await,
        (DBUS, _) => return connection.reply(&header, &()).await,
        (PROPERTIES, "GetAll") => {
            let (of,): (String,) = message.body().deserialize()?;
            let path = text(header.path().map(|path| path.as_str()));
            let all = systemd::properties(shared, &path, &of);
            return connection.reply(&header, &all).await;
        }
        (MANAGER, "Subscribe") => {
            shared.lock().subscribed.push(connection.clone());
            return connection.reply(&header, &()).await;
        }
        _ => {}
    }
    match systemd::call(shared, &member, message)? {
        Reply::Nothing => connection.reply(&header, &()).await,
        Reply::Job(path) => connection.reply(&header, &path).await,
        Reply::Units(units) => connection.reply(&header, &units).await,
        Reply::Files(files) => connection.reply(&header, &files).await,
        Reply::Enabled => {
            let changes: Vec<(String, String, String)> = Vec::new();
            connection.reply(&header, &(true, changes)).await
        }
        Reply::Disabled => {
            let changes: Vec<(String, String, String)> = Vec::new();
            connection.reply(&header, &changes).await
        }
        Reply::Error(name) => connection.reply_error(&header, name, &"refused by the scenario").await,
    }
}

/// Closes every connection; new ones are accepted.
pub async fn restart(shared: &Shared) {
    shared.lock().subscribed.clear();
    let connections = std::mem::take(&mut shared.lock().connections);
    for connection in connections {
        // The agent may have closed it.
        let _ = connection.close().await;
    }
}

/// Sends `JobRemoved` to all that have subscribed.
pub async fn job_removed(shared: &Shared, id: u32, unit: &str, result: &str) {
    let job = OwnedObjectPath::try_from(format!("{PATH}/job/{id}")).unwrap();
    let subscribed = shared.lock().subscribed.clone();
    for connection in subscribed {
        // One that is gone needs no signal.
        let body = (id, &job, unit, result);
        let _ = connection.emit_signal(None::<BusName<'_>>, PATH, MANAGER, "JobRemoved", &body).await;
    }
}
