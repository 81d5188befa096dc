-- Health of a SelfDistillRun for Argo CD. The same answers as kstatus gives (docs/operator/gitops.md), with Suspended
-- where kstatus knows no better word than InProgress.
local function health(status, message)
  return {status = status, message = message}
end

local status = obj.status
if status == nil or status.conditions == nil or status.observedGeneration ~= obj.metadata.generation then
  return health("Progressing", "the operator has not seen this version of the run yet")
end

local holds, message = {}, {}
for _, condition in ipairs(status.conditions) do
  holds[condition.type] = condition.status == "True"
  message[condition.type] = condition.message
end

if holds["Reconciling"] then
  return health("Progressing", message["Reconciling"])
end
if holds["Stalled"] then
  return health("Degraded", message["Stalled"])
end
if holds["Suspended"] then
  return health("Suspended", message["Suspended"])
end
if holds["Ready"] then
  return health("Healthy", message["Ready"])
end
return health("Progressing", message["Ready"])
