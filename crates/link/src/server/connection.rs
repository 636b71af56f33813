//! The task of one connection: admission, TLS, HTTP/2, and why it ended.

use super::{
    Peer, Shared,
    addresses::Share,
    admission::Ticket,
    registry::CertifiedPeer,
    services::{Context, Router},
};
use crate::{
    ended::{Ended, reason},
    error::CloseReason,
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use std::{
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::AcquireError,
    time::{Instant, sleep, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tracing::debug;

/// Frames in memory per stream that the peer has not taken yet, in bytes.
const SEND_BUFFER: usize = 64 << 10;
/// gRPC's headers are some hundred bytes.
const MAX_HEADERS: u32 = 8 << 10;
/// Calls at the same time over one connection: one session, or so many logs and execs.
const MAX_STREAMS: u32 = 32;

pub(super) async fn run(shared: Arc<Shared>, tcp: TcpStream, addr: SocketAddr, ticket: Ticket) {
    let Ticket { place: _place, share, wait } = ticket;
    let stream = tokio::select! {
        stream = handshake(&shared, &share, tcp, wait) => stream,
        () = shared.closing.cancelled() => return,
    };
    let stream = match stream {
        Ok(stream) => stream,
        Err(problem) => return debug!(%addr, %problem, "an agent's connection did not come about"),
    };
    let cut = shared.cut.child_token();
    let certified = stream.get_ref().1.peer_certificates().map(|chain| CertifiedPeer {
        addr,
        chain: chain.iter().map(|der| der.clone().into_owned()).collect(),
        cut: cut.clone(),
    });
    // 2. Those without a certificate are few and do not stay; those with one know themselves.
    let (_registration, _uncertified) = match &certified {
        Some(peer) => {
            (Some(shared.registry.register(peer.clone(), shared.limits.max_connections_per_key)), None)
        }
        None => match shared.admission.admit_uncertified(addr, &share) {
            Some(places) => (None, Some((share.clone(), places))),
            None => return debug!(%addr, "too many agents ask to join; one was closed unheard"),
        },
    };
    drop(share);
    let limits = &shared.limits;
    let life = if certified.is_some() { Duration::MAX } else { limits.uncertified_life };
    let ended = Ended::default();
    let context = Arc::new(Context::new(shared.clone(), Peer { addr }, certified, ended.clone()));
    let mut http = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    http.timer(TokioTimer::new())
        .keep_alive_interval(limits.keepalive.interval)
        .keep_alive_timeout(limits.keepalive.timeout)
        .initial_stream_window_size(limits.window)
        .initial_connection_window_size(limits.window)
        .max_concurrent_streams(MAX_STREAMS)
        .max_send_buf_size(SEND_BUFFER)
        .max_header_list_size(MAX_HEADERS)
        .header_table_size(1 << 10);
    let mut connection = std::pin::pin!(http.serve_connection(TokioIo::new(stream), Router(context.clone())));
    let mut first_call = std::pin::pin!(sleep(limits.first_message_timeout));
    let mut end_of_life = std::pin::pin!(tokio::time::sleep_until(
        Instant::now().checked_add(life).unwrap_or_else(|| Instant::now() + Duration::from_secs(1 << 30))
    ));
    let (mut waiting, mut closing) = (true, false);
    let why = loop {
        tokio::select! {
            result = connection.as_mut() => break match result {
                Ok(()) if closing => CloseReason::ShuttingDown,
                Ok(()) => CloseReason::ByPeer,
                Err(error) => reason(&error),
            },
            () = cut.cancelled() => break CloseReason::Cut,
            () = &mut end_of_life => break CloseReason::Idle,
            () = &mut first_call, if waiting => {
                waiting = false;
                if !context.called.load(Ordering::Relaxed) {
                    break CloseReason::Idle;
                }
            }
            () = shared.closing.cancelled(), if !closing => {
                closing = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    };
    debug!(%addr, why = %why, "an agent's connection ended");
    ended.set(why);
}

async fn handshake(
    shared: &Shared,
    share: &Share,
    tcp: TcpStream,
    wait: Duration,
) -> Result<TlsStream<TcpStream>, CloseReason> {
    sleep(wait).await;
    let transport = |error: &dyn std::fmt::Display| CloseReason::Transport(error.to_string());
    // The own ones first: who waits for them holds nothing that others want.
    let running =
        async { Ok((share.handshakes.acquire().await?, shared.admission.handshakes.acquire().await?)) };
    let _running = match timeout(shared.limits.max_handshake_wait, running).await {
        Ok(Ok::<_, AcquireError>(permits)) => permits,
        _ => return Err(transport(&"no handshake was free in time")),
    };
    tcp.set_nodelay(true).map_err(|e| transport(&e))?;
    let accept = TlsAcceptor::from((shared.tls)()).accept(tcp).into_fallible();
    match timeout(shared.limits.handshake_timeout, accept).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err((error, tcp))) => {
            shared.tasks.spawn(linger(tcp));
            Err(transport(&error))
        }
        Err(_) => Err(transport(&"the TLS handshake took too long")),
    }
}

/// Reads what the client still sends, for a moment: closing a socket with unread data resets it,
/// and the reset would overtake the alert that tells the client what is wrong.
async fn linger(mut tcp: TcpStream) {
    let _ = timeout(Duration::from_secs(1), async {
        tcp.shutdown().await?;
        let mut sink = [0; 4096];
        for _ in 0..16 {
            if tcp.read(&mut sink).await? == 0 {
                break;
            }
        }
        std::io::Result::Ok(())
    })
    .await;
}
