variable "name" {
  type        = string
  description = "Names everything, and is the value of the instances' tag `astra`, by which the CI deploys."
}

variable "ami_id" {
  type        = string
  description = "Amazon Linux 2023 or Ubuntu 24.04 have the SSM agent; Debian and the RHEL family need it installed."
}

variable "root_device" {
  type        = string
  description = "The root device of the AMI: /dev/xvda of Amazon Linux and Debian, /dev/sda1 of Ubuntu."
  default     = "/dev/xvda"
}

variable "root_gib" {
  type        = number
  description = "Size of the root volume: the images of the last releases are kept."
  default     = 20
}

variable "instance_type" {
  type        = string
  description = "With an arm64 type, the AMI and the package must be for arm64."
  default     = "t3.small"
}

variable "instances" {
  type        = number
  description = "At least one."
  default     = 1
  validation {
    condition     = var.instances >= 1
    error_message = "instances must be 1 or more."
  }
}

variable "vpc_id" {
  type        = string
  description = "The VPC of the subnets."
}

variable "subnet_ids" {
  type        = list(string)
  description = "Subnets with a route to the registry, SSM and the package: public, or with a NAT or endpoints."
}

variable "balancer_security_group_id" {
  type        = string
  description = "Port 80 is open to this security group of a load balancer. null: 80 and 443 are open to the world."
  default     = null
}

variable "health_path" {
  type        = string
  description = "The same path as `[caddy] health` in agent_toml."
  default     = "/health"
}

variable "agent_url" {
  type        = string
  description = "Where the .deb, the .rpm or the bare binary is fetched from."
}

variable "agent_sha256" {
  type        = string
  description = "Its checksum: sha256sum FILE."
  validation {
    condition     = can(regex("^[0-9a-f]{64}$", var.agent_sha256))
    error_message = "agent_sha256 must be 64 lower-case hex digits."
  }
}

variable "agent_toml" {
  type        = string
  description = "The agent.toml of the first boot, without secrets: the user data can be read by every process."
}

variable "cron_jobs" {
  type        = any
  description = "Jobs for [[cron_jobs]], with the same keys: a list of maps of strings or lists of strings."
  default     = []
}

variable "secrets_prefix" {
  type        = string
  description = "The role may read the secrets whose names begin with it, such as `prod/shop/`."
}

variable "parameters_path" {
  type        = string
  description = "The role may read the parameters below this path, such as `/shop/prod/`."
}

variable "ecr_repository" {
  type        = string
  description = "The ECR repository of the image, in this account and region. null: another registry."
  default     = null
}
