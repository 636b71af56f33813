//! The generated services over one connection, and which call goes where.

use super::{CertifiedPeer, Peer, Shared, TreeBytes, session};
use crate::{
    bulk::{self, BulkChannel, next},
    ended::Ended,
    error::{Refusal, code},
    message::{BulkFrame, ImagePartRequest, JoinRequest, JoinUpdate, RenewRequest, TreePart, TreeRequest},
    proto::{
        self,
        bulk_server::{self, BulkServer},
        control_server::{self, ControlServer},
        enrollment_server::{self, EnrollmentServer},
    },
    throttle::Throttle,
    version::{PROTOCOL, negotiate},
    wire::{self, WireError},
};
use bytes::Bytes;
use futures::{StreamExt, stream, stream::BoxStream};
use hyper::body::Incoming;
use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};
use tokio::{sync::mpsc, time::timeout};
use tonic::{
    Request, Response, Status, Streaming,
    body::Body,
    codegen::{Service, http},
};

/// What the services know about their connection.
pub(super) struct Context {
    shared: Arc<Shared>,
    peer: Peer,
    certified: Option<CertifiedPeer>,
    ended: Ended,
    /// Whether any call came.
    pub(super) called: AtomicBool,
    /// One connection carries one session.
    in_session: AtomicBool,
}

impl Context {
    pub(super) const fn new(
        shared: Arc<Shared>,
        peer: Peer,
        certified: Option<CertifiedPeer>,
        ended: Ended,
    ) -> Self {
        let (called, in_session) = (AtomicBool::new(false), AtomicBool::new(false));
        Self { shared, peer, certified, ended, called, in_session }
    }

    /// An answer of size and bytes, or of a refusal, until the server closes.
    fn parts(
        &self,
        given: Result<TreeBytes, Refusal>,
    ) -> BoxStream<'static, Result<proto::TreePart, Status>> {
        let closing = self.shared.closing.clone();
        let parts = match given {
            Err(refusal) => stream::once(async { TreePart::Refused(refusal) }).boxed(),
            Ok(TreeBytes { size, bytes }) => {
                let data = bytes.flat_map(|piece| stream::iter(pieces(piece)));
                stream::once(async move { TreePart::Size(size) }).chain(data).boxed()
            }
        };
        parts.take_until(closing.cancelled_owned()).map(|part| Ok(part.into())).boxed()
    }

    fn certified(&self) -> Result<CertifiedPeer, Status> {
        self.certified.clone().ok_or_else(|| {
            Status::unauthenticated("a client certificate is required; join or renew the certificate first")
        })
    }
}

/// Sends calls to their services by path.
pub(super) struct Router(pub(super) Arc<Context>);

type Reply = Pin<Box<dyn Future<Output = Result<http::Response<Body>, Infallible>> + Send>>;

impl hyper::service::Service<http::Request<Incoming>> for Router {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Reply;

    fn call(&self, request: http::Request<Incoming>) -> Reply {
        let context = self.0.clone();
        context.called.store(true, Ordering::Relaxed);
        let service = request.uri().path().trim_start_matches('/').split('/').next().unwrap_or_default();
        match service {
            enrollment_server::SERVICE_NAME => EnrollmentServer::from_arc(context)
                .max_decoding_message_size(wire::MAX_ENROLL)
                .max_encoding_message_size(wire::MAX_DOWN)
                .call(request),
            control_server::SERVICE_NAME => ControlServer::from_arc(context)
                .max_decoding_message_size(wire::MAX_UP)
                .max_encoding_message_size(wire::MAX_DOWN)
                .call(request),
            bulk_server::SERVICE_NAME => BulkServer::from_arc(context)
                .max_decoding_message_size(wire::MAX_BULK_MESSAGE)
                .max_encoding_message_size(wire::MAX_BULK_MESSAGE)
                .call(request),
            _ => Box::pin(async { Ok(Status::unimplemented("there is no such service here").into_http()) }),
        }
    }
}

#[tonic::async_trait]
impl enrollment_server::Enrollment for Context {
    type JoinStream = BoxStream<'static, Result<proto::JoinUpdate, Status>>;

    async fn join(&self, request: Request<proto::JoinRequest>) -> Result<Response<Self::JoinStream>, Status> {
        let updates = async {
            let request = JoinRequest::try_from(request.into_inner())?;
            negotiate(PROTOCOL, request.protocol)?;
            self.shared.gateway.join(self.peer, request).await
        };
        let updates = updates
            .await
            .unwrap_or_else(|refusal| stream::once(async { JoinUpdate::Refused(refusal) }).boxed());
        let closing = self.shared.closing.clone();
        let updates = updates.take_until(closing.cancelled_owned());
        Ok(Response::new(updates.map(|update| Ok(update.into())).boxed()))
    }

    async fn challenge(
        &self,
        request: Request<proto::ChallengeRequest>,
    ) -> Result<Response<proto::ChallengeReply>, Status> {
        let reply = match wire::challenge_request(request.get_ref()) {
            Ok(node) => self.shared.gateway.challenge(self.peer, node).await,
            Err(error) => Err(error.into()),
        };
        Ok(Response::new(reply.into()))
    }

    async fn renew(
        &self,
        request: Request<proto::RenewRequest>,
    ) -> Result<Response<proto::RenewReply>, Status> {
        let reply = match RenewRequest::try_from(request.into_inner()) {
            Ok(request) => self.shared.gateway.renew(self.peer, request).await,
            Err(error) => Err(error.into()),
        };
        Ok(Response::new(reply.into()))
    }
}

#[tonic::async_trait]
impl control_server::Control for Context {
    type SessionStream = session::Outgoing;

    async fn session(
        &self,
        request: Request<Streaming<proto::AgentMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let peer = self.certified()?;
        if self.in_session.swap(true, Ordering::Relaxed) {
            return Err(Status::failed_precondition("this connection has had its session; dial another one"));
        }
        let (sender, outgoing) = session::outgoing();
        let task = session::run(self.shared.clone(), peer, self.ended.clone(), request.into_inner(), sender);
        self.shared.tasks.spawn(task);
        Ok(Response::new(outgoing))
    }
}

#[tonic::async_trait]
impl bulk_server::Bulk for Context {
    type StreamStream = BoxStream<'static, Result<proto::BulkFrame, Status>>;
    type FetchTreeStream = BoxStream<'static, Result<proto::TreePart, Status>>;

    async fn fetch_tree(
        &self,
        request: Request<proto::TreeRequest>,
    ) -> Result<Response<Self::FetchTreeStream>, Status> {
        let peer = self.certified()?;
        let tree = async {
            let request = TreeRequest::try_from(request.into_inner())?;
            self.shared.gateway.tree(peer, request).await
        };
        Ok(Response::new(self.parts(tree.await)))
    }

    type FetchImagePartStream = BoxStream<'static, Result<proto::TreePart, Status>>;

    async fn fetch_image_part(
        &self,
        request: Request<proto::ImagePartRequest>,
    ) -> Result<Response<Self::FetchImagePartStream>, Status> {
        let peer = self.certified()?;
        let part = async {
            let request = ImagePartRequest::try_from(request.into_inner())?;
            self.shared.gateway.image_part(peer, request).await
        };
        Ok(Response::new(self.parts(part.await)))
    }

    type ProbeStream = BoxStream<'static, Result<proto::BulkFrame, Status>>;

    async fn probe(
        &self,
        request: Request<Streaming<proto::BulkFrame>>,
    ) -> Result<Response<Self::ProbeStream>, Status> {
        let peer = self.certified()?;
        let (shared, ended, incoming) = (self.shared.clone(), self.ended.clone(), request.into_inner());
        let (sender, queue) = mpsc::channel(bulk::QUEUE);
        self.shared.tasks.spawn(async move {
            let channel = BulkChannel::new(sender, incoming, ended, None, Throttle::default());
            let closing = shared.closing.clone();
            closing.run_until_cancelled(shared.gateway.probe(peer, channel)).await
        });
        Ok(Response::new(bulk::frames(queue).map(Ok).boxed()))
    }

    async fn stream(
        &self,
        request: Request<Streaming<proto::BulkFrame>>,
    ) -> Result<Response<Self::StreamStream>, Status> {
        let peer = self.certified()?;
        let (shared, ended, mut incoming) = (self.shared.clone(), self.ended.clone(), request.into_inner());
        let (sender, queue) = mpsc::channel(bulk::QUEUE);
        self.shared.tasks.spawn(async move {
            let first =
                async { BulkFrame::try_from(next(&mut incoming, &ended).await?).map_err(Refusal::from) };
            let refusal = match timeout(shared.limits.first_message_timeout, first).await {
                Ok(Ok(BulkFrame::Open(stream))) => {
                    let channel = BulkChannel::new(sender, incoming, ended, None, Throttle::default());
                    return shared.gateway.bulk(peer, stream, channel).await;
                }
                Ok(Ok(_)) => WireError::Unexpected { got: "another frame", expected: "Open" }.into(),
                Ok(Err(refusal)) => refusal,
                Err(_) => Refusal::new(code::MALFORMED, "no first frame came in time", "try again"),
            };
            let _ = sender.send(BulkFrame::Close(crate::message::BulkEnd::Failed(refusal))).await;
        });
        Ok(Response::new(bulk::frames(queue).map(Ok).boxed()))
    }
}

/// Cut to what a frame takes.
fn pieces(piece: Result<Bytes, Refusal>) -> Vec<TreePart> {
    match piece {
        Err(refusal) => vec![TreePart::Refused(refusal)],
        Ok(mut bytes) => {
            let mut parts = Vec::with_capacity(bytes.len() / wire::MAX_BULK + 1);
            while !bytes.is_empty() {
                parts.push(TreePart::Data(bytes.split_to(bytes.len().min(wire::MAX_BULK))));
            }
            parts
        }
    }
}
