//! AWS Secrets Manager, the SSM Parameter Store and Amazon ECR, asked as the role of this instance. Each request is
//! signed (Signature Version 4). Called by sources.rs and registry/ecr.rs.
//! Sources: API references of Secrets Manager (GetSecretValue) and Systems Manager (GetParameter), "Common errors".

use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use reqwest::Method;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout_at};

use super::http::{Answer, Http, HttpError, HttpRequest, sensitive};
use super::imds::{Imds, ImdsError, Role};
use crate::config::Aws;
use crate::model::text::clean;

/// For one request.
const ANSWER: Duration = Duration::from_secs(5);
/// For all of one plan: a deploy waits for them.
const LIMIT: Duration = Duration::from_secs(10);
/// A request that failed in a way that may pass is sent so often.
const TRIES: u32 = 4;
/// Before the second try, and twice as long before each further one.
const PAUSE: Duration = Duration::from_millis(200);
/// Longest answer, in bytes: a secret has up to 64 KiB, which JSON may write six times as long.
const LONGEST: usize = 512 << 10;
/// Longest part of a message of AWS.
const SHOWN: usize = 400;

/// Why there is no value.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AwsError {
    /// No credentials, or no region.
    #[error("{0}")]
    Role(String),
    /// No connection, or no answer in time.
    #[error("{service} cannot be reached: {why}")]
    Unreachable {
        /// Name of the service, and where it was asked.
        service: String,
        /// The last failure.
        why: String,
    },
    /// The role may not read it.
    #[error("{service} refuses it to the role {role}: {says}\n  hint: allow the role {action} on {arn}")]
    Denied {
        /// Name of the service, and where it was asked.
        service: String,
        /// The role of this instance.
        role: String,
        /// The message of AWS.
        says: String,
        /// The action that a policy must allow.
        action: &'static str,
        /// The resource of that policy.
        arn: String,
    },
    /// No such secret or parameter.
    #[error("{service} has no {what}\n  hint: in another region? Set `[aws] region`, or name it by its ARN")]
    Missing {
        /// Name of the service, and where it was asked.
        service: String,
        /// `secret NAME` or `parameter NAME`.
        what: String,
    },
    /// Any other error of the service: `code: message`.
    #[error("{service} answers {says}{}", hint(says))]
    Refused {
        /// Name of the service, and where it was asked.
        service: String,
        /// The code and message of AWS.
        says: String,
    },
    /// An answer without a text.
    #[error("{what} {why}")]
    NoText {
        /// `secret NAME` or `parameter NAME`.
        what: String,
        /// The content instead.
        why: &'static str,
    },
}

impl From<ImdsError> for AwsError {
    fn from(error: ImdsError) -> Self {
        Self::Role(error.to_string())
    }
}

/// A clock that is wrong by five minutes makes every signature invalid.
fn hint(says: &str) -> &'static str {
    let of_clock = ["InvalidSignature", "SignatureDoesNotMatch", "RequestExpired", "RequestTimeTooSkewed"];
    if of_clock.iter().any(|code| says.starts_with(code)) {
        return "\n  hint: is the clock of this host right? (`timedatectl`)";
    }
    ""
}

/// A secret or a parameter, by its name or ARN.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Item<'a> {
    /// A secret of Secrets Manager.
    Secret(&'a str),
    /// A parameter of the Parameter Store.
    Parameter(&'a str),
    /// The login of Amazon ECR: `name:password` in base64.
    Login,
}

impl Item<'_> {
    fn id(&self) -> &str {
        match self {
            Self::Secret(id) | Self::Parameter(id) => id,
            Self::Login => "",
        }
    }

    /// Name of the service, its code in host names and signatures, and the value of X-Amz-Target.
    fn service(&self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Secret(_) => ("AWS Secrets Manager", "secretsmanager", "secretsmanager.GetSecretValue"),
            Self::Parameter(_) => ("AWS SSM", "ssm", "AmazonSSM.GetParameter"),
            Self::Login => {
                ("Amazon ECR", "ecr", "AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken")
            }
        }
    }

    fn body(&self) -> Value {
        match self {
            Self::Secret(id) => json!({ "SecretId": id }),
            Self::Parameter(name) => json!({ "Name": name, "WithDecryption": true }),
            Self::Login => json!({}),
        }
    }

    /// The region of an ARN: `arn:PARTITION:SERVICE:REGION:ACCOUNT:…`.
    fn region(&self) -> Option<&str> {
        let mut parts = self.id().split(':');
        if parts.next() != Some("arn") {
            return None;
        }
        parts.nth(2).filter(|region| !region.is_empty())
    }

    /// The action and the resource that a policy must allow.
    fn permission(&self, region: &str) -> (&'static str, String) {
        let (action, of) = match self {
            Self::Secret(_) => ("secretsmanager:GetSecretValue", "secretsmanager"),
            Self::Parameter(_) => ("ssm:GetParameter", "ssm"),
            Self::Login => ("ecr:GetAuthorizationToken", "ecr"),
        };
        let (partition, _) = partition(region);
        let arn = match self {
            Self::Login => "*".to_owned(),
            Self::Secret(arn) if self.region().is_some() => (*arn).to_owned(),
            // The ARN of a secret ends with six random characters.
            Self::Secret(id) => format!("arn:{partition}:{of}:{region}:*:secret:{id}-??????"),
            // A version or a label is no part of the resource.
            Self::Parameter(arn) if self.region().is_some() => {
                arn.splitn(7, ':').take(6).collect::<Vec<_>>().join(":")
            }
            Self::Parameter(name) => {
                let name = name.split(':').next().unwrap_or(name).trim_start_matches('/');
                format!("arn:{partition}:{of}:{region}:*:parameter/{name}")
            }
        };
        (action, arn)
    }
}

impl std::fmt::Display for Item<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Secret(id) => write!(f, "secret {id}"),
            Self::Parameter(name) => write!(f, "parameter {name}"),
            Self::Login => f.write_str("login of Amazon ECR"),
        }
    }
}

/// The partition of a region, and the domain of its services. Source: partitions.json of the AWS SDKs.
fn partition(region: &str) -> (&'static str, &'static str) {
    let of = [
        ("cn-", "aws-cn", "amazonaws.com.cn"),
        ("us-gov-", "aws-us-gov", "amazonaws.com"),
        ("us-iso-", "aws-iso", "c2s.ic.gov"),
        ("us-isob-", "aws-iso-b", "sc2s.sgov.gov"),
        ("us-isof-", "aws-iso-f", "csp.hci.ic.gov"),
        ("eu-isoe-", "aws-iso-e", "cloud.adc-e.uk"),
        ("eusc-", "aws-eusc", "amazonaws.eu"),
    ];
    let found = of.iter().find(|(begins, ..)| region.starts_with(begins));
    found.map_or(("aws", "amazonaws.com"), |(_, partition, domain)| (partition, domain))
}

/// An error of a service, `{"__type": "NAMESPACE#CODE", "message": …}`: its code and its message. The message is under
/// `message`, `Message` or both.
fn error_in(answer: &Answer) -> (String, String) {
    let found: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let text = |name: &str| found.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    let code = text("__type").and_then(|kind| kind.rsplit('#').next());
    let code = code.map_or_else(|| answer.status.to_string(), |code| clean(code, 100));
    (code, clean(text("message").or(text("Message")).unwrap_or_default(), SHOWN))
}

/// The services of one region, for one plan.
#[derive(Debug)]
pub struct AwsClient {
    http: Http,
    role: Role,
    region: String,
    endpoint: Option<String>,
    until: Instant,
}

impl AwsClient {
    /// Asks for the credentials of the instance's role.
    ///
    /// # Errors
    ///
    /// The instance has none, or its metadata service does not answer.
    pub async fn connect(settings: &Aws, imds: &Imds) -> Result<Self, AwsError> {
        let role = imds.role().await?;
        let region = settings.region.clone().unwrap_or_else(|| role.region.clone());
        let until = Instant::now() + LIMIT;
        Ok(Self { http: Http::new(), role, region, endpoint: settings.endpoint.clone(), until })
    }

    /// The text of a secret or parameter.
    ///
    /// # Errors
    ///
    /// It does not exist, the role may not read it, it is binary, or the service does not answer.
    pub async fn text(&self, item: Item<'_>) -> Result<String, AwsError> {
        let answer = self.answer(item).await?;
        let no_text = |why| AwsError::NoText { what: item.to_string(), why };
        let found: Value =
            serde_json::from_slice(&answer.body).map_err(|_| no_text("has an answer that is not JSON"))?;
        let text = match item {
            Item::Secret(_) => found.get("SecretString"),
            Item::Parameter(_) => found.get("Parameter").and_then(|parameter| parameter.get("Value")),
            Item::Login => found.pointer("/authorizationData/0/authorizationToken"),
        };
        match text.and_then(Value::as_str) {
            Some(text) => Ok(text.to_owned()),
            None if found.get("SecretBinary").is_some() => {
                Err(no_text("is binary, and a variable has text: store it as text"))
            }
            None => Err(no_text("has no text")),
        }
    }

    /// The 200 of a service, after tries again where the failure may pass.
    async fn answer(&self, item: Item<'_>) -> Result<Answer, AwsError> {
        let region = item.region().unwrap_or(&self.region);
        let (service, _, _) = item.service();
        let service = format!("{service} in {region}");
        let mut pause = PAUSE;
        let mut last = String::new();
        for left in (0..TRIES).rev() {
            let answer = timeout_at(self.until, self.ask(item, region)).await;
            match answer.unwrap_or_else(|_| Err(format!("no answer within {} s in all", LIMIT.as_secs()))) {
                Ok(answer) if answer.status == 200 => return Ok(answer),
                Ok(answer) => match self.judge(item, region, &service, &answer) {
                    Ok(passes) => last = passes,
                    Err(error) => return Err(error),
                },
                Err(why) => last = why,
            }
            if left == 0 || Instant::now() + pause >= self.until {
                break;
            }
            sleep(pause).await;
            pause *= 2;
        }
        Err(AwsError::Unreachable { service, why: last })
    }

    /// `Ok`: a failure that may pass, as `code: message`.
    fn judge(
        &self,
        item: Item<'_>,
        region: &str,
        service: &str,
        answer: &Answer,
    ) -> Result<String, AwsError> {
        let (code, message) = error_in(answer);
        let says = if message.is_empty() { code.clone() } else { format!("{code}: {message}") };
        let service = service.to_owned();
        match code.as_str() {
            _ if answer.status == 429 || answer.status >= 500 => Ok(says),
            "ThrottlingException" | "Throttling" | "TooManyRequestsException" | "RequestLimitExceeded" => {
                Ok(says)
            }
            "AccessDeniedException" | "AccessDenied" | "403" => {
                let (action, arn) = item.permission(region);
                // A key of the customer's own is refused by KMS.
                let (action, arn) = match says.contains("kms:") || says.contains("Access to KMS") {
                    true => ("kms:Decrypt", "its key in KMS".to_owned()),
                    false => (action, arn),
                };
                Err(AwsError::Denied { service, role: self.role.name.clone(), says, action, arn })
            }
            "ResourceNotFoundException" | "ParameterNotFound" | "ParameterVersionNotFound" => {
                Err(AwsError::Missing { service, what: item.to_string() })
            }
            _ => Err(AwsError::Refused { service, says }),
        }
    }

    async fn ask(&self, item: Item<'_>, region: &str) -> Result<Answer, String> {
        let (_, code, target) = item.service();
        let (_, domain) = partition(region);
        let url = match &self.endpoint {
            Some(endpoint) => format!("{endpoint}/"),
            None if item == Item::Login => format!("https://api.{code}.{region}.{domain}/"),
            None => format!("https://{code}.{region}.{domain}/"),
        };
        let body = item.body().to_string().into_bytes();
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-amz-json-1.1"));
        headers.insert("x-amz-target", HeaderValue::from_static(target));
        self.sign(&url, &mut headers, &body, (code, region), SystemTime::now())?;
        let request = HttpRequest {
            method: Method::POST,
            headers,
            body,
            deadline: ANSWER,
            cap: LONGEST,
            ..HttpRequest::get(&url)
        };
        self.http.ask(request).await.map_err(|error: HttpError| error.to_string())
    }

    /// Adds the signature. Source: IAM User Guide, "Create a signed AWS API request".
    fn sign(
        &self,
        url: &str,
        headers: &mut HeaderMap,
        body: &[u8],
        (service, region): (&str, &str),
        now: SystemTime,
    ) -> Result<(), String> {
        let failed = |error: &dyn std::fmt::Display| format!("signing the request: {error}");
        let role = &self.role;
        let session = Some(role.session.reveal().to_owned());
        let identity = Credentials::new(&role.key_id, role.key.reveal(), session, None, "the role").into();
        let settings = v4::SigningParams::builder()
            .identity(&identity)
            .region(region)
            .name(service)
            .time(now)
            .settings(SigningSettings::default());
        let settings = settings.build().map_err(|error| failed(&error))?.into();
        let (instructions, _) = {
            let of = headers.iter().filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)));
            let request = SignableRequest::new("POST", url, of, SignableBody::Bytes(body));
            sign(request.map_err(|error| failed(&error))?, &settings)
                .map_err(|error| failed(&error))?
                .into_parts()
        };
        for (name, value) in instructions.headers() {
            let name = name.parse::<HeaderName>().map_err(|error| failed(&error))?;
            headers.insert(name, sensitive(value).ok_or_else(|| failed(&"a header of it"))?);
        }
        Ok(())
    }
}

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
