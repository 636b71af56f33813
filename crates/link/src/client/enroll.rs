//! Becoming a node and staying one, over a connection without a client certificate.

use super::connection::Connection;
use crate::{
    bulk::next,
    error::LinkError,
    message::{Certificate, JoinRequest, JoinUpdate, RenewRequest},
    proto::enrollment_client::EnrollmentClient,
    wire,
};
use futures::{Stream, stream};
use lattice_model::NodeId;

impl Connection {
    fn enrollment(&self) -> EnrollmentClient<Self> {
        EnrollmentClient::with_origin(self.clone(), self.origin.clone())
            .max_decoding_message_size(wire::MAX_DOWN)
            .max_encoding_message_size(wire::MAX_ENROLL)
    }

    /// Asks to join. The stream ends with a decision, or with an error when the connection does;
    /// then ask again with the same key. Pending may come several times.
    ///
    /// # Errors
    /// [`LinkError`] when the request did not arrive.
    pub async fn join(
        &self,
        request: JoinRequest,
    ) -> Result<impl Stream<Item = Result<JoinUpdate, LinkError>> + Send + use<>, LinkError> {
        let incoming = match self.enrollment().join(proto(request)).await {
            Ok(reply) => reply.into_inner(),
            Err(status) => return Err(self.refused(status).await),
        };
        let connection = self.clone();
        Ok(stream::unfold(Some((incoming, connection)), |state| async move {
            let (mut incoming, connection) = state?;
            let update = match next(&mut incoming, &connection.ended).await {
                Ok(update) => JoinUpdate::try_from(update).map_err(LinkError::from),
                Err(error) => Err(connection.named(error)),
            };
            let more = matches!(update, Ok(JoinUpdate::Pending { .. }));
            Some((update, more.then_some((incoming, connection))))
        }))
    }

    /// A challenge to sign for [`Self::renew`].
    ///
    /// # Errors
    /// [`LinkError::Refused`] when the server does not know the node.
    pub async fn challenge(&self, node: NodeId) -> Result<Vec<u8>, LinkError> {
        match self.enrollment().challenge(wire::challenge_for(node)).await {
            Ok(reply) => Ok(Result::try_from(reply.into_inner())??),
            Err(status) => Err(self.refused(status).await),
        }
    }

    /// A new certificate for the registered key.
    ///
    /// # Errors
    /// [`LinkError::Refused`] when the proof does not hold or the node may not return.
    pub async fn renew(&self, request: RenewRequest) -> Result<Certificate, LinkError> {
        let request: crate::proto::RenewRequest = request.into();
        match self.enrollment().renew(request).await {
            Ok(reply) => Ok(Result::<Certificate, _>::try_from(reply.into_inner())??),
            Err(status) => Err(self.refused(status).await),
        }
    }
}

fn proto(request: JoinRequest) -> crate::proto::JoinRequest {
    request.into()
}
