-- What can be done to a SelfDistillRun from Argo CD's menu: a finished run can be neither suspended nor resumed.
local phase = obj.status ~= nil and obj.status.phase or "Pending"
local ended = phase == "Succeeded" or phase == "Failed" or phase == "Invalid"
local suspended = obj.spec.suspend == true

local actions = {}
actions["suspend"] = {["disabled"] = ended or suspended}
actions["resume"] = {["disabled"] = ended or not suspended}
return actions
