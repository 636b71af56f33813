//! People and projects: the functions of the client for them.

use crate::{Client, client::NO_QUERY, error::ClientError};
use hyper::Method;
use lattice_api::{
    ConsoleLink, DeviceDecided, DeviceDecision, DevicePoll, DeviceStart, DeviceStarted, InviteAccept,
    InviteCreate, InviteCreated, List, Login, PasswordChange, ProjectCreate, ProjectView, QuotaChange,
    RolesChange, SessionCreated, UserCreate, UserView, paths,
};
use lattice_model::{ProjectName, UserName};

/// What goes wrong is a [`ClientError`], as everywhere.
#[allow(clippy::missing_errors_doc)]
impl Client {
    /// Signs in by password.
    pub async fn login(&self, request: &Login) -> Result<SessionCreated, ClientError> {
        self.json(Method::POST, &paths::login(), request).await
    }

    /// Ends the session that this client uses.
    pub async fn logout(&self) -> Result<(), ClientError> {
        self.empty(Method::POST, &paths::logout()).await
    }

    /// Begins a login by code.
    pub async fn start_device_login(&self, request: &DeviceStart) -> Result<DeviceStarted, ClientError> {
        self.json(Method::POST, &paths::device_codes(), request).await
    }

    /// Asks what came of it; refused with
    /// [`AuthorizationPending`](lattice_api::ErrorCode::AuthorizationPending) until somebody decides.
    pub async fn poll_device_login(&self, request: &DevicePoll) -> Result<SessionCreated, ClientError> {
        self.json(Method::POST, &paths::device_token(), request).await
    }

    /// Lets a login by code in, or turns it away.
    pub async fn decide_device_login(&self, request: &DeviceDecision) -> Result<DeviceDecided, ClientError> {
        self.json(Method::POST, &paths::device_decision(), request).await
    }

    /// Makes a link that signs a browser in as whoever this client is.
    pub async fn create_console_link(&self) -> Result<ConsoleLink, ClientError> {
        self.bare(Method::POST, &paths::console_links()).await
    }

    /// Makes an invitation.
    pub async fn create_invite(&self, request: &InviteCreate) -> Result<InviteCreated, ClientError> {
        self.json(Method::POST, &paths::invites(), request).await
    }

    /// Takes an invitation.
    pub async fn accept_invite(&self, request: &InviteAccept) -> Result<SessionCreated, ClientError> {
        self.json(Method::POST, &paths::invite_accept(), request).await
    }

    /// Users.
    pub async fn users(&self) -> Result<List<UserView>, ClientError> {
        self.get(&paths::users(), NO_QUERY).await
    }

    /// Makes a user.
    pub async fn create_user(&self, request: &UserCreate) -> Result<UserView, ClientError> {
        self.json(Method::POST, &paths::users(), request).await
    }

    /// Removes a user.
    pub async fn delete_user(&self, user: &UserName) -> Result<(), ClientError> {
        self.empty(Method::DELETE, &paths::user(user)).await
    }

    /// Keeps a user out.
    pub async fn disable_user(&self, user: &UserName) -> Result<UserView, ClientError> {
        self.bare(Method::POST, &paths::user_disable(user)).await
    }

    /// Lets a user in again.
    pub async fn enable_user(&self, user: &UserName) -> Result<UserView, ClientError> {
        self.bare(Method::POST, &paths::user_enable(user)).await
    }

    /// Sets a password.
    pub async fn set_password(&self, user: &UserName, request: &PasswordChange) -> Result<(), ClientError> {
        self.json_empty(Method::PUT, &paths::user_password(user), request).await
    }

    /// Gives roles.
    pub async fn grant_roles(&self, user: &UserName, request: &RolesChange) -> Result<UserView, ClientError> {
        self.json(Method::POST, &paths::user_grant(user), request).await
    }

    /// Takes roles.
    pub async fn revoke_roles(
        &self,
        user: &UserName,
        request: &RolesChange,
    ) -> Result<UserView, ClientError> {
        self.json(Method::POST, &paths::user_revoke(user), request).await
    }

    /// Ends all sessions of a user.
    pub async fn end_sessions(&self, user: &UserName) -> Result<(), ClientError> {
        self.empty(Method::DELETE, &paths::user_sessions(user)).await
    }

    /// Projects.
    pub async fn projects(&self) -> Result<List<ProjectView>, ClientError> {
        self.get(&paths::projects(), NO_QUERY).await
    }

    /// One project.
    pub async fn project(&self, project: &ProjectName) -> Result<ProjectView, ClientError> {
        self.get(&paths::project(project), NO_QUERY).await
    }

    /// Makes a project.
    pub async fn create_project(&self, request: &ProjectCreate) -> Result<ProjectView, ClientError> {
        self.json(Method::POST, &paths::projects(), request).await
    }

    /// Removes a project in which nothing is left.
    pub async fn delete_project(&self, project: &ProjectName) -> Result<(), ClientError> {
        self.empty(Method::DELETE, &paths::project(project)).await
    }

    /// Sets what a project may use at the most.
    pub async fn set_quota(
        &self,
        project: &ProjectName,
        request: &QuotaChange,
    ) -> Result<ProjectView, ClientError> {
        self.json(Method::PUT, &paths::project_quota(project), request).await
    }
}
