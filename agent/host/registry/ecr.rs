//! Logins of Amazon ECR: a token for twelve hours, asked for as the role of this instance when it is needed, and kept
//! nowhere. Source: Amazon ECR User Guide, "Private registry authentication"; API reference, GetAuthorizationToken.

use std::cell::RefCell;
use std::collections::BTreeMap;

use anyhow::{Context, Result};

use super::auth::Credentials;
use crate::config::Aws;
use crate::host::aws::{AwsClient, Item};
use crate::host::imds::Imds;
use crate::model::image::Repository;
use crate::model::secret::Secret;
use crate::model::token::decode;

/// The logins of this process.
#[derive(Debug)]
pub struct Ecr {
    imds: Imds,
    endpoint: Option<String>,
    known: RefCell<BTreeMap<String, Credentials>>,
}

/// The region of a private registry of Amazon ECR; `None`: another registry.
/// `ACCOUNT.dkr.ecr.REGION.amazonaws.com`, with `-fips`, or of China; `ACCOUNT.dkr-ecr.REGION.on.aws`.
pub fn region(registry: &str) -> Option<&str> {
    let (account, rest) = registry.split_once('.')?;
    let is_account = account.len() == 12 && account.bytes().all(|byte| byte.is_ascii_digit());
    let rest = ["dkr.ecr.", "dkr.ecr-fips.", "dkr-ecr.", "dkr-ecr-fips."]
        .iter()
        .find_map(|kind| rest.strip_prefix(kind))
        .filter(|_| is_account)?;
    let (region, domain) = rest.split_once('.')?;
    ["amazonaws.com", "amazonaws.com.cn", "on.aws"].contains(&domain).then_some(region)
}

impl Ecr {
    /// `endpoint`: where AWS is asked instead of the region's own address.
    pub fn new(imds: Imds, endpoint: Option<String>) -> Self {
        Self { imds, endpoint, known: RefCell::default() }
    }

    /// The login for a repository; `None`: it is not of Amazon ECR.
    ///
    /// # Errors
    ///
    /// The instance has no role, the role may not log in, or the service does not answer.
    pub async fn login(&self, repository: &Repository) -> Result<Option<Credentials>> {
        let registry = repository.registry();
        let Some(region) = region(registry) else { return Ok(None) };
        if let Some(known) = self.known.borrow().get(registry) {
            return Ok(Some(known.clone()));
        }
        let doing = || format!("logging in to {registry} as the role of this instance");
        let settings =
            Aws { region: Some(region.to_owned()), endpoint: self.endpoint.clone(), ..Aws::default() };
        let client = AwsClient::connect(&settings, &self.imds).await.with_context(doing)?;
        let token = client.text(Item::Login).await.with_context(doing)?;
        let plain = decode(&token).and_then(|bytes| String::from_utf8(bytes).ok());
        let (username, password) =
            plain.as_deref().and_then(|text| text.split_once(':')).context("the token is no login")?;
        let login = Credentials { username: username.to_owned(), password: Secret::new(password) };
        self.known.borrow_mut().insert(registry.to_owned(), login.clone());
        Ok(Some(login))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_registries_of_ecr_have_a_region() {
        for (registry, of) in [
            ("123456789012.dkr.ecr.eu-central-1.amazonaws.com", Some("eu-central-1")),
            ("123456789012.dkr.ecr-fips.us-gov-west-1.amazonaws.com", Some("us-gov-west-1")),
            ("123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn", Some("cn-north-1")),
            ("123456789012.dkr-ecr.eu-west-1.on.aws", Some("eu-west-1")),
            ("public.ecr.aws", None),
            ("123456789012.dkr.ecr.eu-west-1.amazonaws.com.example.org", None),
            ("12345.dkr.ecr.eu-west-1.amazonaws.com", None),
            ("123456789012.dkr.ecr.eu-west-1.amazonaws.com:443", None),
        ] {
            assert_eq!(region(registry), of, "{registry}");
        }
    }
}
